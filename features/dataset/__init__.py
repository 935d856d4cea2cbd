"""Data sets for models: labelled examples, their splits, and the published Parquet files with features."""
