"""The history of visitors as of each day: dim_visitor."""

from bisect import bisect_left
from collections.abc import Sequence
from datetime import date

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from conf import UserError
from etl.tables import dim
from etl.warehouse.store import Warehouse
from etl.weblog.clickstream import visitor_id
from etl.weblog.local_rows import local_rows
from etl.weblog.source import day_of_datestr


def snapshots_before(warehouse: Warehouse, datestrs: Sequence[str]) -> list[str]:
    """Of each of `datestrs` the newest snapshot of dim_visitor before it, unless that is of one of them, too."""
    existing = warehouse.partitions(dim.visitor)
    newest = {existing[index - 1] for value in datestrs if (index := bisect_left(existing, value))}
    return sorted(newest.difference(datestrs))


def check_key(warehouse: Warehouse, key: str, days: Sequence[date]) -> None:
    """Check that the visitors before each of `days` were told apart as these will be: else all would be new.

    Args:
        warehouse: has the snapshots of the days before.
        key: `weblog.visitor_key` of the load.
        days: the days to load, in order.

    Raises:
        UserError: a snapshot, which this load doesn't replace, has another key.
    """
    snapshots = snapshots_before(warehouse, [dim.visitor.partition_value(day) for day in days])
    if not snapshots:
        return
    before = warehouse.read(dim.visitor, [day_of_datestr(value) for value in snapshots])
    # Old snapshots have no key: they are of addresses.
    keys = before.select("datestr", F.coalesce("visitor_key", F.lit("address")).alias("visitor_key"))
    row = keys.where(F.col("visitor_key") != key).agg(F.min(F.struct("datestr", "visitor_key"))).collect()[0][0]
    if row is not None:
        raise UserError(
            f"weblog.visitor_key={key}, but the visitors up to {row[0]} are told apart by {row[1]}: load all days "
            "from the first on again, or set it back; nothing was changed"
        )


def history(
    spark: SparkSession,
    views: DataFrame,
    before: DataFrame,
    snapshots: Sequence[str],
    datestrs: Sequence[str],
    key: str,
) -> DataFrame:
    """dim_visitor of each of `datestrs`: every visitor up to that day, with the first and last view.

    One row per visitor and day with a view is put in order, and then repeated until the visitor's next one: a shuffle
    of the page views' summaries, never of the snapshots, which have a row per visitor and day.

    Args:
        spark: the session.
        views: page views of those days.
        before: snapshots of dim_visitor of other days; empty at the start.
        snapshots: the days of `before`.
        datestrs: the days to make snapshots of, in order.
        key: `weblog.visitor_key`, which is stored beside the visitors.
    """
    by_day = views.groupBy(visitor_id().alias("visitor_id"), "datestr").agg(
        F.min("time_local").alias("first_seen"),
        F.max(F.struct(F.col("time_local").alias("last_seen"), "remote_addr")).alias("last_view"),
    )
    earlier = before.select(
        visitor_id().alias("visitor_id"),
        "datestr",
        "first_seen",
        F.struct("last_seen", "remote_addr").alias("last_view"),
    )
    # A snapshot before one of the days counts from that day on.
    numbered = [(value, bisect_left(datestrs, value) + 1) for value in (*snapshots, *datestrs)]
    positions = F.broadcast(local_rows(spark, numbered, "datestr string, position int"))
    timeline = Window.partitionBy("visitor_id").orderBy("position")
    so_far = timeline.rowsBetween(Window.unboundedPreceding, 0)
    next_position = F.lead("position", 1, len(datestrs) + 1).over(timeline)
    states = (
        by_day.unionByName(earlier)
        .join(positions, on="datestr", how="inner")
        .select(
            "visitor_id",
            F.min("first_seen").over(so_far).alias("first_seen"),
            F.max("last_view").over(so_far).alias("last_view"),
            "position",
            (next_position - F.col("position")).alias("num_days"),
        )
    )
    # Text, because an array of thousands of literals is slow to plan.
    all_days = F.split(F.lit(",".join(datestrs)), ",")
    day = F.explode(F.slice(all_days, F.col("position"), F.col("num_days"))).alias("datestr")
    return states.select(day, "visitor_id", "first_seen", "last_view.*", F.lit(key).alias("visitor_key"))
