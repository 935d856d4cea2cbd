"""Labelled examples, one row per (user, item, moment), from impressions or, where there are none, from interactions.

Columns: example_id, user_id, item_id, at, day, position, device, label (1 clicked or liked, else 0), and for
impressions `features`, the values that were logged when they were shown (null for none).
"""

from collections.abc import Sequence
from datetime import date, timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from conf import UserError
from etl.table import Table
from etl.tables import dwd
from etl.warehouse.store import Warehouse
from features.settings import FeatureSettings

COLUMNS = ["example_id", "user_id", "item_id", "at", "day", "position", "device", "label"]


def load_examples(warehouse: Warehouse, settings: FeatureSettings, day: date | None) -> DataFrame:
    """Examples of the window that ends with `day` (of all days when None).

    Raises UserError when there is neither an impression nor an interaction.
    """
    days = None if day is None else window(settings, day)
    if holds(warehouse, dwd.impression, days):
        return from_impressions(warehouse.read(dwd.impression, days))
    if holds(warehouse, dwd.interaction, days):
        return from_interactions(warehouse.read(dwd.interaction, days), settings)
    raise UserError(
        f"no impressions or interactions up to {day or 'now'}: run `millrace etl events` or `millrace ingest`"
    )


def window(settings: FeatureSettings, day: date) -> list[date]:
    """Days that the training set of `day` reaches back to, itself included."""
    return [day - timedelta(days=i) for i in range(settings.window_days)]


def holds(warehouse: Warehouse, table: Table, days: Sequence[date] | None) -> bool:
    """Whether any partition of the days was written."""
    known = warehouse.partitions(table)
    return bool(known) if days is None else any(table.partition_value(day) in known for day in days)


def from_impressions(impressions: DataFrame) -> DataFrame:
    """dwd_impression -> examples."""
    return impressions.select(
        F.col("impression_id").alias("example_id"),
        "user_id",
        "item_id",
        F.col("shown_at").alias("at"),
        F.to_date("shown_at").alias("day"),
        "position",
        "device",
        F.col("is_clicked").alias("label"),
        "features",
    )


def from_interactions(interactions: DataFrame, settings: FeatureSettings) -> DataFrame:
    """dwd_interaction -> examples: each positive, and beside it items drawn at random as not chosen.

    A rating below `min_rating` is neither: the user chose the item, and did not like it. A drawn item that the user
    also chose is left out. The draw is a hash of the positive, so that a rerun draws the same.
    """
    is_positive = (F.col("action") != "rating") | (F.col("value") >= settings.min_rating)
    positives = interactions.where(is_positive).select(
        F.col("event_id").alias("example_id"),
        "user_id",
        "item_id",
        F.col("acted_at").alias("at"),
        F.to_date("acted_at").alias("day"),
        F.lit(None).cast("int").alias("position"),
        F.lit(None).cast("string").alias("device"),
        F.lit(1).alias("label"),
    )
    draws = F.explode(F.sequence(F.lit(1), F.lit(settings.negatives)))
    items = positives.select("item_id").distinct()
    numbered = (
        items.rdd.map(lambda row: row["item_id"])
        .sortBy(lambda item: item)
        .zipWithIndex()
        .toDF(["drawn_item", "number"])
    )
    drawn = (
        positives.withColumn("draw", draws)
        .withColumn("number", F.pmod(F.xxhash64("example_id", "draw", F.lit(settings.seed)), F.lit(items.count())))
        .join(numbered, on="number", how="inner")
        .withColumn("item_id", F.col("drawn_item"))
        .withColumn("example_id", F.concat_ws("-", "example_id", F.lit("n"), F.col("draw").cast("string")))
        .withColumn("label", F.lit(0))
        .select(*COLUMNS)
    )
    chosen = positives.select("user_id", "item_id").distinct()
    return positives.select(*COLUMNS).unionByName(
        drawn.join(chosen, on=["user_id", "item_id"], how="left_anti").select(*COLUMNS)
    )
