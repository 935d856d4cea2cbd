"""Deep training: one loop over any model, task and backend; it reads Parquet, writes run folders and knows no Spark."""
