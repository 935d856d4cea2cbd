"""The recall stage: candidates of a day with their features, for lists to serve and for lists to measure.

Two sets are published under `datasets/candidates/dt=…/`: `holdout`, from what was known before the test rows, beside
the positives that came (`positives.parquet`); and `serve`, from all that is known.
"""

from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conf import Config, Paths, UserError, file_url
from conf.runs import Run, start_run
from conf.versions import current, publish
from etl.stage import Counts, stage_run, total_of
from etl.tables import dim, dws
from etl.warehouse import Warehouse
from features.build import KIND as EXAMPLES
from features.build import features_of_pairs, split_examples
from features.dataset import as_dataset_columns, write_dataset
from features.settings import FeatureSettings
from recsys.recall import CHANNELS
from recsys.recall.measure import measure_channels
from recsys.recall.merge import merge
from recsys.settings import RecallSettings, RecommendSettings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

KIND = "candidates"
KEYS = ["user_id", "item_id", "channels", "score"]


def run(spark: "SparkSession", config: Config, day: date) -> dict[str, Any]:
    """Recall for the split that the day's training set was built with; needs `features build`."""
    paths, settings = config.get(Paths), config.get(FeatureSettings)
    recall = config.get(RecallSettings)
    _check_quota(recall)
    _, about = current(paths.datasets(EXAMPLES, day), made_by=f"millrace features build --date {day}")
    warehouse = Warehouse(spark, paths)
    with stage_run(warehouse, "recall", [day]) as counts:
        rows = split_examples(warehouse, settings, day, about["split"]).persist()
        try:
            with (
                publish(paths.datasets(KIND, day), {"split": about["split"]}) as folder,
                start_run(config, "recall", day) as found,
            ):
                _holdout(warehouse, config, day, rows, folder / "holdout", about["statistics"], found)
                written = _serve(warehouse, config, day, rows, folder / "serve", about["statistics"])
        finally:
            rows.unpersist()
        counts[day] = Counts(rows_in=written, rows_out=written)
    return total_of(counts)


def _check_quota(settings: RecallSettings) -> None:
    if unknown := set(settings.quota) - set(CHANNELS):
        raise UserError(f"recall.quota names unknown channels {sorted(unknown)}; choose from {', '.join(CHANNELS)}")


def propose(history: "DataFrame", users: "DataFrame", settings: RecallSettings) -> "dict[str, DataFrame]":
    """Every channel's own list, before merging."""
    return {name: CHANNELS[name](history, users, settings, k).persist() for name, k in settings.quota.items()}


def _holdout(
    warehouse: Warehouse,
    config: Config,
    day: date,
    rows: "DataFrame",
    folder: Path,
    statistics: dict[str, Any],
    found: Run,
) -> None:
    """Candidates for the users of the test rows, from positives before them, and what each channel recalled."""
    positives = rows.where("label = 1")
    known = positives.where("split != 'test'").select("user_id", "item_id", "at")
    truth = positives.where("split = 'test'").select("user_id", "item_id").distinct()
    truth = truth.join(known.select("user_id", "item_id"), on=["user_id", "item_id"], how="left_anti").persist()
    users = truth.select("user_id").distinct()
    proposed = propose(known, users, config.get(RecallSettings))
    merged = merge(proposed, config.get(RecallSettings).quota).persist()
    measure_channels({**proposed, "merged": merged}, truth, config.get(RecommendSettings).ks, found)
    moment = rows.where("split = 'test'").agg({"at": "min"}).collect()[0][0]
    _write(warehouse, config, day, moment.date(), merged, rows.where("split = 'train'"), folder, statistics)
    truth.coalesce(1).write.parquet(file_url(folder.parent / "positives.parquet"))
    for frame in (truth, merged, *proposed.values()):
        frame.unpersist()


def _serve(
    warehouse: Warehouse, config: Config, day: date, rows: "DataFrame", folder: Path, statistics: dict[str, Any]
) -> int:
    """Candidates for every known user, from all that is known at the end of the day."""
    known = rows.where("label = 1").select("user_id", "item_id", "at")
    users = warehouse.newest(dim.user, day).select("user_id")
    proposed = propose(known, users, config.get(RecallSettings))
    merged = merge(proposed, config.get(RecallSettings).quota).persist()
    written = warehouse.write(dws.recall_candidate, _of_day(merged, day), [day])[day]
    _write(warehouse, config, day, day + timedelta(days=1), merged, rows, folder, statistics)
    for frame in (merged, *proposed.values()):
        frame.unpersist()
    return written


def _of_day(rows: "DataFrame", day: date) -> "DataFrame":
    return rows.selectExpr("*", f"'{day.isoformat()}' as dt")


def _write(
    warehouse: Warehouse,
    config: Config,
    day: date,
    shown_on: date,
    merged: "DataFrame",
    known: "DataFrame",
    folder: Path,
    statistics: dict[str, Any],
) -> None:
    settings = config.get(FeatureSettings)
    features = features_of_pairs(warehouse, settings, day, merged.select(*KEYS), known, statistics, shown_on=shown_on)
    write_dataset(as_dataset_columns(features, KEYS), folder, settings)
