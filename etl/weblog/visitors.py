"""The history of visitors as of each day: dim_visitor."""

from collections.abc import Sequence

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F


def history(spark: SparkSession, views: DataFrame, before: DataFrame, datestrs: Sequence[str]) -> DataFrame:
    """dim_visitor of each of `datestrs`: every visitor up to that day, with the first and last view.

    Args:
        spark: the session.
        views: page views of those days.
        before: the snapshot of dim_visitor before the first of them; empty at the start.
        datestrs: the days to make snapshots of.
    """
    by_day = views.groupBy("remote_addr", F.col("datestr").alias("viewed_on")).agg(
        F.min("time_local").alias("first_seen"), F.max("time_local").alias("last_seen")
    )
    # An empty text sorts before every day: the old snapshot is part of each new one.
    earlier = before.select("remote_addr", F.lit("").alias("viewed_on"), "first_seen", "last_seen")
    # Each view counts for its own day and all later ones: at most as many rows as visitors times days.
    days = F.broadcast(spark.createDataFrame([(day,) for day in datestrs], "datestr string"))
    return (
        by_day.unionByName(earlier)
        .join(days, on=F.col("viewed_on") <= F.col("datestr"), how="inner")
        .groupBy("datestr", "remote_addr")
        .agg(F.min("first_seen").alias("first_seen"), F.max("last_seen").alias("last_seen"))
    )
