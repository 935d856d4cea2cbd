"""Impressions whose logged features no model can read: they are quarantined, and are in no training set."""

import logging
from collections.abc import Sequence
from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from etl.tables import dwd, ods
from etl.warehouse import quarantine
from etl.warehouse.store import Warehouse
from features.catalog import SPARSE

log = logging.getLogger(__name__)


def unreadable_value() -> Column:
    """Text such as `category 1000000000`, of the first logged id that its feature does not have; null without one.

    Ids are whole numbers in [0, buckets). NaN and infinity are no ids either; as numbers they count as missing.
    """
    # Values of vocabularies are never read from the log.
    faults = [_unreadable_id(feature.name, feature.buckets) for feature in SPARSE if not feature.at_least]
    return F.coalesce(*faults)  # the first one that is not null


def _unreadable_id(name: str, buckets: int) -> Column:
    value = F.col("features")[name]
    is_id = (value >= 0) & (value < buckets) & (value == F.floor(value))  # NaN is larger than any number in Spark
    return F.when(value.isNotNull() & ~is_id, F.concat(F.lit(f"{name} "), value.cast("string")))


def quarantine_unreadable(warehouse: Warehouse, day: date, days: Sequence[date] | None) -> int:
    """Replace the rows that the stage `features` of `day` has in ods_quarantine, and log how many they are.

    Args:
        warehouse: where impressions and quarantine are.
        day: the day of the training set.
        days: of the impressions it is made from; None for all.

    Returns:
        Number of impressions left out.
    """
    impressions: DataFrame = warehouse.read(dwd.impression, days)
    unreadable = impressions.withColumn("reason", unreadable_value()).where(F.col("reason").isNotNull())
    first = unreadable.orderBy("dt", "impression_id").first()
    # A write is seconds: only where there is something to add, or rows of an earlier build to take away.
    if first is None and not warehouse.has_partition(ods.quarantine, day):
        return 0
    rows = unreadable.select(
        F.lit("bad_feature").alias("reason"),
        F.concat(F.lit(f"{dwd.impression.name}/{dwd.impression.partition}="), "dt").alias("file"),
        F.lit(0).cast("bigint").alias("line_number"),
        F.concat_ws(" ", F.lit("impression"), "impression_id", F.lit("logged"), "reason").alias("line"),
        F.lit(day.isoformat()).alias("dt"),
    )
    count = quarantine.replace_rows(warehouse, "features", rows, [day])[day]
    if first is not None:
        log.warning(
            "features %s: %d impressions quarantined for a logged id that its feature does not have: %s of %s (%s)",
            day, count, first["reason"], first["impression_id"], first["dt"],
        )  # fmt: skip
    return count
