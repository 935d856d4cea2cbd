"""The history of visitors as of each day: dim_visitor."""

from collections.abc import Sequence

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F


def history(spark: SparkSession, views: DataFrame, before: DataFrame, datestrs: Sequence[str]) -> DataFrame:
    """dim_visitor of each of `datestrs`, from the page views of those days and the snapshot before the first."""
    seen = views.groupBy("remote_addr", F.col("datestr").alias("seen_on")).agg(
        F.min("time_local").alias("first_seen"), F.max("time_local").alias("last_seen")
    )
    earlier = before.select("remote_addr", F.lit("").alias("seen_on"), "first_seen", "last_seen")
    days = F.broadcast(spark.createDataFrame([(day,) for day in datestrs], "datestr string"))
    return (
        seen.unionByName(earlier)
        .join(days, on=F.col("seen_on") <= F.col("datestr"), how="inner")
        .groupBy("datestr", "remote_addr")
        .agg(F.min("first_seen").alias("first_seen"), F.max("last_seen").alias("last_seen"))
    )
