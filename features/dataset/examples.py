"""Labelled examples, one row per (user, item, moment), from impressions or, where there are none, from interactions.

COLUMNS are theirs: label is 1 for clicked or liked, else 0. Impressions also have `propensity` and, where any were
logged, `features`, the values that were logged when they were shown (null for none). Where the site declares columns
of what happened, all have `context`.
"""

from collections.abc import Sequence
from datetime import date, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from conf import UserError
from conf.site import Label, current_site
from conf.site.declaration import place_of
from etl.table import Table
from etl.tables import dwd
from etl.warehouse.store import Warehouse
from features.catalog import OWN_COLUMNS
from features.compute.spark_rows import LOGGED
from features.dataset.logged import unreadable_value
from features.dataset.names import PROPENSITY
from features.settings import FeatureSettings

CONTEXT = ["context"] if OWN_COLUMNS.needs_context else []
COLUMNS = ["example_id", "user_id", "item_id", "at", "day", "position", "device", "label", *CONTEXT]


def load_examples(warehouse: Warehouse, settings: FeatureSettings, day: date | None) -> DataFrame:
    """Examples of the window that ends with `day` (of all days when None).

    Raises:
        UserError: when there is neither an impression nor an interaction.
    """
    days = None if day is None else window_days(settings, day)
    # Impressions say what was shown and not clicked; interactions alone need sampled negatives.
    if has_rows(warehouse, dwd.impression, days):
        impressions = warehouse.read(dwd.impression, days)
        # Without the column, no plan asks each row for each of its values.
        is_logged = not impressions.where(F.col(LOGGED).isNotNull()).isEmpty()
        return from_impressions(impressions, is_logged=is_logged)
    if has_rows(warehouse, dwd.interaction, days):
        site = current_site()
        return from_interactions(warehouse.read(dwd.interaction, days), settings, site.label if site else None)
    raise UserError(
        f"no impressions or interactions up to {day or 'now'}: run `millrace etl events --date DAY` for what the site "
        "logged, or `millrace ingest interactions --ratings FILE --format FORMAT` for data of another system"
    )


def window_days(settings: FeatureSettings, day: date) -> list[date]:
    """Days of the training set of `day`, newest first, itself included."""
    return [day - timedelta(days=i) for i in range(settings.window_days)]


def has_rows(warehouse: Warehouse, table: Table, days: Sequence[date] | None) -> bool:
    """Whether a partition of any of the days was written (of any day at all when None)."""
    partitions = warehouse.partitions(table)
    return bool(partitions) if days is None else any(table.partition_value(day) in partitions for day in days)


def from_impressions(impressions: DataFrame, *, is_logged: bool = True) -> DataFrame:
    """dwd_impression -> examples, without those whose logged features no model can read.

    Args:
        impressions: rows of dwd_impression.
        is_logged: whether any has logged features.
    """
    readable = impressions.where(unreadable_value().isNull()) if is_logged else impressions
    return readable.select(
        F.col("impression_id").alias("example_id"),
        "user_id",
        "item_id",
        F.col("shown_at").alias("at"),
        F.to_date("dt").alias("day"),
        "position",
        "device",
        F.col("is_clicked").alias("label"),
        *CONTEXT,
        *([LOGGED] if is_logged else []),
        F.col(PROPENSITY).cast("float").alias(PROPENSITY),
    )


def from_interactions(interactions: DataFrame, settings: FeatureSettings, label: Label | None = None) -> DataFrame:
    """dwd_interaction -> examples: each positive, and `negatives` sampled items that the user did not choose.

    A rating below `min_rating` is neither: the user chose the item, and did not like it. A sampled item that the user
    also chose is dropped, so there are a few less. The draw is a hash of the positive, so that a rerun repeats it.

    Args:
        interactions: rows of dwd_interaction.
        settings: `negatives`, `min_rating` and `seed`.
        label: which rows are positives, as the site declares it; without it any act but a rating, and ratings from
            `min_rating` on.

    Raises:
        UserError: when no interaction is a positive.
    """
    positives = interactions.where(_is_positive(settings, label)).select(
        F.col("event_id").alias("example_id"),
        "user_id",
        "item_id",
        F.col("acted_at").alias("at"),
        F.to_date("dt").alias("day"),
        F.lit(None).cast("int").alias("position"),  # nothing was shown in a list
        F.lit(None).cast("string").alias("device"),
        F.lit(1).alias("label"),
        *CONTEXT,
    )
    if positives.isEmpty():
        raise _no_positive_error(interactions, settings, label)
    negatives = _sampled_negatives(positives, settings)
    chosen = positives.select("user_id", "item_id").distinct()
    return positives.select(*COLUMNS).unionByName(
        negatives.join(chosen, on=["user_id", "item_id"], how="left_anti").select(*COLUMNS)
    )


def _is_positive(settings: FeatureSettings, label: Label | None) -> Column:
    if label is None:
        # Any act but a rating is a choice; a rating must be high enough.
        return (F.col("action") != "rating") | (F.col("value") >= settings.min_rating)
    is_positive = F.col("action") == label.action
    return is_positive if label.at_least is None else is_positive & (F.col("value") >= label.at_least)


def _no_positive_error(interactions: DataFrame, settings: FeatureSettings, label: Label | None) -> UserError:
    if label is not None:
        interactions = interactions.where(F.col("action") == label.action)
    low, high = interactions.agg(F.min("value"), F.max("value")).collect()[0]
    if low is None:
        return UserError("the interactions have no row with a value: nothing was chosen; load other days")
    if label is not None:
        return UserError(
            f"{place_of(label)}: no interaction is a positive: values of {label.action} run from {low:g} to {high:g}, "
            f"and one counts from {label.at_least:g} on; choose a bound within that range"
        )
    return UserError(
        f"no interaction is a positive: ratings run from {low:g} to {high:g}, and one counts from features.min_rating="
        f"{settings.min_rating:g} on; set it lower"
    )


def _sampled_negatives(positives: DataFrame, settings: FeatureSettings) -> DataFrame:
    """`negatives` rows of each positive with an item drawn uniformly from all positives' items."""
    items = positives.select("item_id").distinct()
    # Numbers in the order of the ids, which a window would need a single partition for.
    numbered = (
        items.rdd.map(lambda row: row["item_id"])
        .sortBy(lambda item: item)
        .zipWithIndex()
        .toDF(["sampled_item", "number"])
    )
    draw = F.pmod(F.xxhash64("example_id", "draw", F.lit(settings.seed)), F.lit(items.count()))
    return (
        positives.withColumn("draw", F.explode(F.sequence(F.lit(1), F.lit(settings.negatives))))
        .withColumn("number", draw)
        .join(numbered, on="number", how="inner")
        .withColumn("item_id", F.col("sampled_item"))
        .withColumn("example_id", F.concat_ws("-", "example_id", F.lit("n"), F.col("draw").cast("string")))
        .withColumn("label", F.lit(0))  # same user and moment as its positive
        .select(*COLUMNS)
    )
