"""Features: their catalog and index, values, counts, transforms, data sets, checks and metrics."""
