"""The history of visitors as of each day: dim_visitor."""

from collections.abc import Sequence
from datetime import date

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from conf import UserError
from etl.tables import dim
from etl.warehouse.store import Warehouse
from etl.weblog.clickstream import visitor_id


def newest_before(warehouse: Warehouse, day: date) -> DataFrame:
    """The snapshot of dim_visitor before a day: no rows at the start."""
    value = dim.visitor.partition_value(day)
    snapshots = [snapshot for snapshot in warehouse.partitions(dim.visitor) if snapshot < value]
    return warehouse.read(dim.visitor).where(F.col("datestr") == (snapshots[-1] if snapshots else ""))


def check_key(warehouse: Warehouse, key: str, days: Sequence[date]) -> None:
    """Check that the visitors before each of `days` were told apart as these will be: else all would be new.

    Args:
        warehouse: has the snapshots of the days before.
        key: `weblog.visitor_key` of the load.
        days: the days to load, in order.

    Raises:
        UserError: a snapshot, which this load doesn't replace, has another key.
    """
    loaded = {dim.visitor.partition_value(day) for day in days}
    for day in days:
        # Old snapshots have no key: they are of addresses. One row tells it of all.
        row = newest_before(warehouse, day).select("datestr", F.coalesce("visitor_key", F.lit("address"))).first()
        if row is not None and row[0] not in loaded and row[1] != key:
            raise UserError(
                f"weblog.visitor_key={key}, but the visitors up to {row[0]} are told apart by {row[1]}: load all days "
                "from the first on again, or set it back; nothing was changed"
            )


def history(spark: SparkSession, views: DataFrame, before: DataFrame, datestrs: Sequence[str], key: str) -> DataFrame:
    """dim_visitor of each of `datestrs`: every visitor up to that day, with the first and last view.

    Args:
        spark: the session.
        views: page views of those days.
        before: the snapshot of dim_visitor before the first of them; empty at the start.
        datestrs: the days to make snapshots of.
        key: `weblog.visitor_key`, which is stored beside the visitors.
    """
    by_day = views.groupBy(visitor_id().alias("visitor_id"), F.col("datestr").alias("viewed_on")).agg(
        F.min("time_local").alias("first_seen"),
        F.max(F.struct(F.col("time_local").alias("last_seen"), "remote_addr")).alias("last_view"),
    )
    # An empty text sorts before every day: the old snapshot is part of each new one.
    earlier = before.select(
        visitor_id().alias("visitor_id"),
        F.lit("").alias("viewed_on"),
        "first_seen",
        F.struct("last_seen", "remote_addr").alias("last_view"),
    )
    # Each view counts for its own day and all later ones: at most as many rows as visitors times days.
    days = F.broadcast(spark.createDataFrame([(day,) for day in datestrs], "datestr string"))
    return (
        by_day.unionByName(earlier)
        .join(days, on=F.col("viewed_on") <= F.col("datestr"), how="inner")
        .groupBy("datestr", "visitor_id")
        .agg(F.min("first_seen").alias("first_seen"), F.max("last_view").alias("last_view"))
        .select("datestr", "visitor_id", "first_seen", "last_view.*", F.lit(key).alias("visitor_key"))
    )
