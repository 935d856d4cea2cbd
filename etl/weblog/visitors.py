"""The history of visitors as of each day: dim_visitor."""

from bisect import bisect_left
from collections.abc import Sequence

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F


def history(
    spark: SparkSession, views: DataFrame, before: DataFrame, snapshots: Sequence[str], datestrs: Sequence[str]
) -> DataFrame:
    """dim_visitor of each of `datestrs`: every visitor up to that day, with the first and last view.

    One row per visitor and day with a view is put in order, and then repeated until the visitor's next one: a shuffle
    of the page views' summaries, never of the snapshots, which have a row per visitor and day.

    Args:
        spark: the session.
        views: page views of those days.
        before: snapshots of dim_visitor of earlier days; empty at the start.
        snapshots: the days of `before`.
        datestrs: the days to make snapshots of, in order.
    """
    changes = views.groupBy("remote_addr", "datestr").agg(
        F.min("time_local").alias("first_seen"), F.max("time_local").alias("last_seen")
    )
    changes = changes.unionByName(before.select("remote_addr", "datestr", "first_seen", "last_seen"))
    # A snapshot before one of the days counts from that day on.
    positions = [(value, bisect_left(datestrs, value) + 1) for value in (*snapshots, *datestrs)]
    by_day = F.broadcast(spark.createDataFrame(positions, "datestr string, position int"))
    timeline = Window.partitionBy("remote_addr").orderBy("position")
    so_far = timeline.rowsBetween(Window.unboundedPreceding, 0)
    next_position = F.lead("position", 1, len(datestrs) + 1).over(timeline)
    states = changes.join(by_day, on="datestr", how="inner").select(
        "remote_addr",
        F.min("first_seen").over(so_far).alias("first_seen"),
        F.max("last_seen").over(so_far).alias("last_seen"),
        "position",
        (next_position - F.col("position")).alias("num_days"),
    )
    all_days = F.split(
        F.lit(",".join(datestrs)), ","
    )  # text, because an array of thousands of literals is slow to plan
    days = F.explode(F.slice(all_days, F.col("position"), F.col("num_days")))
    return states.select(days.alias("datestr"), "remote_addr", "first_seen", "last_seen")
