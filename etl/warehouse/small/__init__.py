"""Tables of little data, and many days, with less of Spark: checks and queries by DuckDB, files by pyarrow."""
