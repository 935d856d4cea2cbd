"""From the day's Parquet files to shuffled batches of tensors: data sets, reading plan, Petastorm's row groups."""
