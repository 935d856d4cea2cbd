"""A site's declaration judged on a sample of its data, without Spark: every fault at once, each with its cure."""
