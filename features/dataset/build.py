"""The training set of a day as Parquet with Petastorm's metadata: `millrace features build`."""

from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from conf import Config, Paths, UserError
from conf.versions import publish_version
from etl.clock import local_time
from etl.settings import SiteSettings
from etl.stage import RowCounts, stage_run, total_counts
from etl.tables import dim, dwd
from etl.warehouse.store import Warehouse
from features.catalog import OWN_COLUMNS, index_version
from features.compatibility import TIMEZONE
from features.compute.spark_own_columns import row_weight
from features.compute.spark_rows import LOGGED, fit_statistics, scale_features, unscaled_features
from features.compute.training_statistics import TrainingStatistics
from features.counts.counts_before import fit_click_rates
from features.dataset.acts import load_acts
from features.dataset.examples import has_rows, load_examples, window_days
from features.dataset.logged import quarantine_unreadable
from features.dataset.names import EXAMPLES, SPLITS, WEIGHT
from features.dataset.outcomes import with_outcomes
from features.dataset.parquet import select_dataset_columns, write_splits
from features.dataset.sampling import OWN_WEIGHT, balance
from features.dataset.splits import TIME_ORDERED, USER_ORDERED, split_by_day, split_by_method
from features.feature_index import update_feature_index
from features.settings import FeatureSettings


def run(spark: SparkSession, config: Config, day: date, split: str = "day") -> dict[str, Any]:
    """Build and publish the training set of `day`.

    Args:
        spark: the session.
        config: sections features and paths are read, and `site.timezone`.
        day: whose training set it is.
        split: day, or one of SPLIT_METHODS over all data of the warehouse.

    Returns:
        The stage's counts, and the rows of each split.

    Raises:
        UserError: when a split has no rows, a feature of the index was changed, or the warehouse's days are those of
            another `site.timezone`.
    """
    settings, paths, zone = config.get(FeatureSettings), config.get(Paths), config.get(SiteSettings).zone
    warehouse = Warehouse(spark, config)
    with stage_run(warehouse, "features", [day]) as counts:
        # First: a changed feature must stop the stage before anything is computed.
        update_feature_index(warehouse, day)
        days = window_days(settings, day) if split == "day" else None
        is_shown = has_rows(warehouse, dwd.impression, days)
        quarantined = quarantine_unreadable(warehouse, day, days) if is_shown else 0
        examples = split_examples(warehouse, settings, day, split)
        try:
            metadata: dict[str, Any] = {"day": day.isoformat(), "split": split, TIMEZONE: zone}
            metadata["rows"] = _count_splits(examples, day, zone)
            with publish_version(paths.datasets(EXAMPLES, day), metadata) as folder:
                _write_splits(warehouse, settings, day, examples, folder, metadata)
                metadata |= {"features": index_version(zone), "sources": warehouse.sources()}
        finally:
            examples.unpersist()
        rows = sum(metadata["rows"].values())
        counts[day] = RowCounts(rows_in=rows + quarantined, rows_out=rows, rows_quarantined=quarantined)
    return {**total_counts(counts), **metadata["rows"]}


def split_examples(warehouse: Warehouse, settings: FeatureSettings, day: date, split: str) -> DataFrame:
    """The examples of the window that ends with `day` (by day), or all of them (other methods), with `split`.

    Their readers read them several times. They are persisted, for these to free, unless they are plain impressions:
    those columns of Parquet files that a plan needs are read faster than a copy of all columns is made.

    Raises:
        UserError: when there is neither an impression nor an interaction.
    """
    if split != "day":
        return split_by_method(load_examples(warehouse, settings, None), settings, split).persist()
    examples = split_by_day(load_examples(warehouse, settings, day), settings, day)
    is_plain = has_rows(warehouse, dwd.impression, window_days(settings, day)) and LOGGED not in examples.columns
    return examples if is_plain else examples.persist()


def countable_rows(examples: DataFrame, split: str) -> DataFrame:
    """Examples that the features of examples of later days may count.

    Where splits follow time, that is all of them: whatever split a day is in, it was over by then. In other splits
    held-out rows may be older than training rows, so only training rows are counted.
    """
    if split in TIME_ORDERED:
        return examples
    return examples.where(F.col("split") == "train")


def candidate_features(
    warehouse: Warehouse,
    settings: FeatureSettings,
    day: date,
    pairs: DataFrame,
    impressions: DataFrame,
    statistics: dict[str, Any],
    acts: DataFrame | None = None,
) -> DataFrame:
    """Features of pairs that recall proposes, as if each were shown first in a list.

    Args:
        warehouse: users and items are those of its snapshots of `day`.
        settings: of the features.
        day: of the snapshots.
        pairs: user_id, item_id and at, the moment that the pair is scored for.
        impressions: labelled examples; those of days before that of `at` are counted.
        statistics: of the training set that the rankers learn from; hours and days are those of its time zone.
        acts: see `load_acts`.
    """
    fitted = TrainingStatistics(**statistics)
    # Position 1 for all: candidates are compared with one another, not by where they were shown.
    day_shown = F.to_date(local_time("at", fitted.timezone))
    shown = pairs.withColumns({"day": day_shown, "position": F.lit(1), "device": F.lit(None).cast("string")})
    users, items = warehouse.newest_snapshot(dim.user, day), warehouse.newest_snapshot(dim.item, day)
    unscaled = unscaled_features(
        shown, users, items, impressions, fitted.rates, settings, fitted.timezone, acts=acts, has_few_days=True
    )
    return scale_features(unscaled, fitted)


def _count_splits(examples: DataFrame, day: date, zone: str) -> dict[str, int]:
    """Rows of each split; refuses rows of other days than the clocks of `zone` say."""
    is_of_other_day = F.to_date(local_time("at", zone)) != F.col("day")
    counts = [F.count("*").alias("rows"), F.count_if(is_of_other_day).alias("other_days")]
    by_split = examples.groupBy("split").agg(*counts).collect()
    if other_days := sum(row["other_days"] for row in by_split):
        # Counts, splits and days since would be those of other clocks than the hours.
        raise UserError(
            f"{other_days} examples up to {day} are on other days than in {zone}: site.timezone was another one when "
            "they were loaded; load their days again, or set it back"
        )
    rows = {row["split"]: int(row["rows"]) for row in by_split}
    if missing := [name for name in SPLITS if not rows.get(name)]:
        raise UserError(
            f"no {' and no '.join(missing)} rows for {day}: load more days: "
            f"`millrace etl events --since DAY --date {day}`"
        )
    return {name: rows[name] for name in SPLITS}


def _write_splits(
    warehouse: Warehouse,
    settings: FeatureSettings,
    day: date,
    examples: DataFrame,
    folder: Path,
    metadata: dict[str, Any],
) -> None:
    """Compute the features with statistics of the training split and write one folder a split."""
    split, zone = str(metadata["split"]), str(metadata[TIMEZONE])
    users, items = warehouse.newest_snapshot(dim.user, day), warehouse.newest_snapshot(dim.item, day)
    rates = fit_click_rates(examples.where(F.col("split") == "train"), settings.prior_strength)
    labelled = _with_own_weight(with_outcomes(examples, _interactions(warehouse, settings, day, split)))
    impressions = countable_rows(examples, split)
    # Counting and joining is the expensive part: once, not once for each split.
    # What a user chose before is earlier than the row also where rows of others are not.
    chosen = examples if split in USER_ORDERED else impressions
    acts = load_acts(warehouse, settings, day, split, examples)
    unscaled = unscaled_features(labelled, users, items, impressions, rates, settings, zone, chosen, acts).persist()
    try:
        statistics = fit_statistics(unscaled.where(F.col("split") == "train"), rates, settings, zone)
        scaled = scale_features(unscaled, statistics)
        if settings.balance != "none" or OWN_WEIGHT in scaled.columns:
            scaled = _balanced(scaled, settings, metadata)
        columns = select_dataset_columns(scaled, ["example_id", "user_id", "item_id", "split"])
        write_splits(columns, folder, settings, by_time=split in USER_ORDERED)
        metadata["statistics"] = asdict(statistics)
    finally:
        unscaled.unpersist()


def _balanced(rows: DataFrame, settings: FeatureSettings, metadata: dict[str, Any]) -> DataFrame:
    """With a weight of each row, and training rows as `features.balance` says.

    Counts and statistics are those of all rows; only what models learn from is sampled and weighted.
    """
    train = balance(rows.where("split = 'train'"), settings)
    if settings.balance != "none":
        metadata["rows"]["train"] = train.count()  # as written, not as split
    others = rows.where("split != 'train'").withColumn(WEIGHT, F.lit(1.0).cast("float"))
    return train.unionByName(others)


def _with_own_weight(examples: DataFrame) -> DataFrame:
    """With the weight that the site declares, if it does.

    Raises:
        UserError: a row has a negative one.
    """
    weight = row_weight(OWN_COLUMNS.labels, F.col("context")) if OWN_COLUMNS.labels else None
    if weight is None:
        return examples
    weighted = examples.withColumn(OWN_WEIGHT, weight)
    if first := weighted.where(F.col(OWN_WEIGHT) < 0).select("example_id", OWN_WEIGHT).head():
        raise UserError(f"the weight of {first['example_id']} is {first[OWN_WEIGHT]:g}: a weight is a number from 0 on")
    return weighted


def _interactions(warehouse: Warehouse, settings: FeatureSettings, day: date, split: str) -> DataFrame | None:
    """Interactions of the days that the examples are of; None when there are none."""
    days = window_days(settings, day) if split == "day" else None
    return warehouse.read(dwd.interaction, days) if has_rows(warehouse, dwd.interaction, days) else None
