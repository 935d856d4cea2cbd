"""The training set of a day as Parquet with Petastorm's metadata: `millrace features build`."""

from datetime import date
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from conf import Config, Paths, UserError
from conf.versions import publish_version
from etl.stage import RowCounts, stage_run, total_counts
from etl.tables import dim, dwd
from etl.warehouse.store import Warehouse
from features.catalog import index_version
from features.counts.engagement import with_followed
from features.counts.known import fit_rates
from features.dataset import splits
from features.dataset.examples import holds, load_examples, window
from features.dataset.files import as_dataset_columns, write_dataset
from features.dataset.kinds import EXAMPLES, PARTS
from features.index import update_index
from features.settings import FeatureSettings
from features.transforms.offline import Statistics, fit, raw_features, standardise


def run(spark: SparkSession, config: Config, day: date, split: str = "day") -> dict[str, Any]:
    """Build and publish the training set of `day`; `split` is day, or one of `splits.SPLITS` over all data."""
    settings, paths = config.get(FeatureSettings), config.get(Paths)
    warehouse = Warehouse(spark, config)
    with stage_run(warehouse, "features", [day]) as counts:
        update_index(warehouse, day)
        rows = split_examples(warehouse, settings, day, split).persist()
        try:
            about: dict[str, Any] = {"day": day.isoformat(), "split": split, "rows": _count(rows, day)}
            with publish_version(paths.datasets(EXAMPLES, day), about) as folder:
                write_splits(warehouse, settings, day, rows, folder, about)
                about |= {"features": index_version(), "sources": warehouse.sources()}
        finally:
            rows.unpersist()
        written = sum(about["rows"].values())
        counts[day] = RowCounts(rows_in=written, rows_out=written)
    return {**total_counts(counts), **about["rows"]}


def split_examples(warehouse: Warehouse, settings: FeatureSettings, day: date, split: str) -> DataFrame:
    """The examples with their `split` column."""
    if split == "day":
        return splits.by_day(load_examples(warehouse, settings, day), settings, day)
    return splits.by_name(load_examples(warehouse, settings, None), settings, split)


def _count(rows: DataFrame, day: date) -> dict[str, int]:
    found = {row["split"]: row["count"] for row in rows.groupBy("split").count().collect()}
    if missing := [name for name in PARTS if not found.get(name)]:
        raise UserError(
            f"no {' and no '.join(missing)} rows for {day}: load more days (`millrace etl events --since …`)"
        )
    return {name: int(found[name]) for name in PARTS}


def write_splits(
    warehouse: Warehouse, settings: FeatureSettings, day: date, rows: DataFrame, folder: Path, about: dict[str, Any]
) -> None:
    """Compute the features with statistics of the training split and write one folder a split."""
    users, items = warehouse.newest_snapshot(dim.user, day), warehouse.newest_snapshot(dim.item, day)
    rates = fit_rates(rows.where(F.col("split") == "train"))
    known = countable(rows, str(about["split"]))
    told = with_followed(rows, _interactions(warehouse, settings, day, str(about["split"])))
    featured = raw_features(told, users, items, known, rates, settings).persist()
    try:
        statistics = fit(featured.where(F.col("split") == "train"), rates)
        ready = standardise(featured, statistics)
        for name in PARTS:
            part = ready.where(F.col("split") == name)
            write_dataset(as_dataset_columns(part, ["example_id", "user_id", "item_id"]), folder / name, settings)
        about["statistics"] = statistics.as_dict()
    finally:
        featured.unpersist()


def _interactions(warehouse: Warehouse, settings: FeatureSettings, day: date, split: str) -> DataFrame | None:
    """Acts of the days that the examples are of; None when there are none."""
    days = window(settings, day) if split == "day" else None
    return warehouse.read(dwd.interaction, days) if holds(warehouse, dwd.interaction, days) else None


def countable(rows: DataFrame, split: str) -> DataFrame:
    """Rows that the features of rows of later days may count.

    Where splits follow time, that is all of them: whatever split a day is in, it was known afterwards. In other splits
    held-out rows may be older than training rows, so only training rows are counted.
    """
    return rows if splits.follows_time(split) else rows.where(F.col("split") == "train")


def features_of_pairs(
    warehouse: Warehouse,
    settings: FeatureSettings,
    day: date,
    pairs: DataFrame,
    known: DataFrame,
    statistics: dict[str, Any],
) -> DataFrame:
    """Features of (user_id, item_id, at) that recall proposes, as if each were shown first in a list `at` that moment.

    Users and items are those of the snapshot of `day`; counts are of `known` rows of days before the one of `at`.
    """
    shown = pairs.withColumns({"day": F.to_date("at"), "position": F.lit(1), "device": F.lit(None).cast("string")})
    users, items = warehouse.newest_snapshot(dim.user, day), warehouse.newest_snapshot(dim.item, day)
    fitted = Statistics(**statistics)
    raw = raw_features(shown, users, items, known, fitted.rates, settings)
    return standardise(raw, fitted)
