"""Run folders of training, ranking and tuning -> warehouse tables, each run exactly once: `millrace etl results`."""

import json
import logging
from collections.abc import Iterable
from datetime import date, datetime
from functools import reduce
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from conf import Config, Paths, UserError, file_url
from conf.runs import (
    FUNNEL,
    INPUTS,
    PREDICTIONS,
    PROMOTED,
    RECOMMENDATIONS,
    finished_runs,
    promotion_status,
    read_json,
    read_jsonl,
    run_folder,
)
from etl.stage import stage_run
from etl.table import Table
from etl.tables import ads, dim
from etl.warehouse.store import Warehouse

log = logging.getLogger(__name__)

# Source tables whose partitions are the days of a model's data.
FACTS = ("dwd_impression", "dwd_interaction")

ROW_FILES = ("metrics.jsonl", "trials.jsonl", "best.jsonl", FUNNEL, INPUTS)

RunRecord = dict[str, Any]  # a run.json, with its `folder`


def run(spark: SparkSession, config: Config) -> dict[str, int]:
    """Load the runs that the warehouse doesn't have yet, and publish each day's promoted lists.

    Run ids make it exactly once: a partition is rewritten with the rows of the runs that it lacks.

    Args:
        spark: the session.
        config: where runs and warehouse are.

    Returns:
        How many finished runs there are, and how many rows were written.
    """
    warehouse, runs_folder = Warehouse(spark, config), config.get(Paths).runs
    records = [record for record in finished_runs(runs_folder) if _is_whole(record)]
    statuses = promotion_status(runs_folder)
    total = 0
    for dt in sorted({record["dt"] for record in records}):
        day, of_day = date.fromisoformat(dt), [record for record in records if record["dt"] == dt]
        with stage_run(warehouse, "results", [day]) as counts:
            written = _add_rows(warehouse, ads.model_metric, day, _metric_rows(of_day))
            written += _add_rows(warehouse, ads.tuning_trial, day, _rows_of_file(of_day, "trials.jsonl"))
            written += _add_rows(warehouse, ads.tuning_best, day, _rows_of_file(of_day, "best.jsonl"))
            written += _register_models(warehouse, day, of_day, statuses)
            written += _publish_recall(warehouse, day)
            written += _publish_funnel(warehouse, day, of_day)
            written += _publish_predictions(warehouse, day, of_day)
            written += _publish_lists(warehouse, runs_folder, day)
            # Run folders have no invalid rows: a folder that was not finished is not read.
            counts[day].rows_in = counts[day].rows_out = written
        total += written
    return {"runs": len(records), "rows_out": total}


def _is_whole(record: RunRecord) -> bool:
    """Whether a run's files can be read: a damaged one is named in the log, and does not keep the other runs out."""
    try:
        for name in ROW_FILES:
            read_jsonl(record["folder"] / name)
    except UserError as error:
        log.warning("run %s is left out: %s", record["run_id"], error)
        return False
    return True


def _add_rows(warehouse: Warehouse, table: Table, day: date, rows: list[dict[str, Any]]) -> int:
    """Add the rows of runs that the partition lacks to those that it has."""
    if not rows:
        return 0
    present = warehouse.read(table, [day])
    run_ids = _run_ids(present)
    new = [row for row in rows if row["run_id"] not in run_ids]
    if new:
        frame = table.with_partition(_to_frame(warehouse.spark, table, new), day)
        warehouse.write(table, present.unionByName(frame), [day])
    return len(new)


def _run_ids(rows: DataFrame) -> set[str]:
    distinct = rows.select("run_id").distinct()
    return {row["run_id"] for row in distinct.collect()}


def _to_frame(spark: SparkSession, table: Table, rows: list[dict[str, Any]]) -> DataFrame:
    # A missing key becomes null: older runs lack newer columns.
    values = [tuple(row.get(name) for name in table.column_names) for row in rows]
    return spark.createDataFrame(values, table.schema_text)


def _rows_of_file(records: Iterable[RunRecord], name: str) -> list[dict[str, Any]]:
    """All rows of a JSON-lines file of the runs, each with its run's id."""
    return [{**row, "run_id": record["run_id"]} for record in records for row in read_jsonl(record["folder"] / name)]


def _metric_rows(records: list[RunRecord]) -> list[dict[str, Any]]:
    ended_at = {record["run_id"]: datetime.fromisoformat(record["ended_at"]) for record in records}
    return [{**row, "trained_at": ended_at[row["run_id"]]} for row in _rows_of_file(records, "metrics.jsonl")]


# --- the register of models ---


def _register_models(warehouse: Warehouse, day: date, records: list[RunRecord], statuses: dict[str, str]) -> int:
    """dim_model of the day, written again when there is a new run or a promotion changed a status."""
    rows = [_model_row(record, statuses) for record in records if (record["folder"] / INPUTS).exists()]
    present = warehouse.read(dim.model, [day]).select("run_id", "part").collect()
    if {(row["run_id"], row["part"]) for row in rows} == {(row["run_id"], row["part"]) for row in present}:
        return 0
    frame = dim.model.with_partition(_to_frame(warehouse.spark, dim.model, rows), day)
    return warehouse.write(dim.model, frame, [day])[day]


def _model_row(record: RunRecord, statuses: dict[str, str]) -> dict[str, Any]:
    inputs = read_jsonl(record["folder"] / INPUTS)
    # A run may read other runs and, at most, one data set.
    dataset: dict[str, Any] = next((row for row in inputs if row["kind"] != "run"), {})
    days = [row["partition"] for row in dataset.get("sources", ()) if row["table"] in FACTS]
    return {
        "run_id": record["run_id"],
        "model": record["model"],
        "part": statuses.get(record["run_id"], ""),
        "trained_at": datetime.fromisoformat(record["ended_at"]),
        "data_from": min(days, default=None),
        "data_to": max(days, default=None),
        "features": dataset.get("features"),
        "dataset": f"{dataset['kind']}/{dataset['dt']}/{dataset['version']}" if dataset else None,
        "code_version": record.get("code_version"),
        "metrics": json.dumps(_test_metrics(record)),
        "inputs": json.dumps(inputs),
    }


def _test_metrics(record: RunRecord) -> dict[str, float]:
    """The run's own metrics on test and holdout rows, such as `auc` and `recall@10`."""
    # A recall run also measures its channels, under their names; a calibration curve is no single number.
    rows = [
        row
        for row in read_jsonl(record["folder"] / "metrics.jsonl")
        if row["split"] in ("test", "holdout")
        and row["model"] == record["model"]
        and not row["metric"].startswith("calibration_")
    ]
    return {row["metric"] + (f"@{row['k']}" if row["k"] else ""): row["value"] for row in rows}


# --- tables that show the newest state of a day ---


def _publish_recall(warehouse: Warehouse, day: date) -> int:
    """ads_recall_daily from the day's newest measurement of the recall channels."""
    if not warehouse.has_partition(ads.model_metric, day):
        return 0
    rows = warehouse.read(ads.model_metric, [day]).where("stage = 'recall' and metric = 'recall' and split = 'holdout'")
    newest = rows.agg(F.max("trained_at")).first()
    if newest is None or newest[0] is None:
        return 0
    recall = rows.where(F.col("trained_at") == newest[0]).select(
        F.col("model").alias("channel"), "k", F.col("value").alias("recall"), F.col("rows").alias("users"), "dt"
    )
    return warehouse.write(ads.recall_daily, recall, [day])[day]


def _publish_funnel(warehouse: Warehouse, day: date, records: Iterable[RunRecord]) -> int:
    """ads_recall_funnel from the day's newest ranking that measured one."""
    newest = [record for record in records if (record["folder"] / FUNNEL).exists()][-1:]
    rows = _rows_of_file(newest, FUNNEL)
    if not rows or rows[0]["run_id"] in _run_ids(warehouse.read(ads.recall_funnel, [day])):
        return 0
    frame = ads.recall_funnel.with_partition(_to_frame(warehouse.spark, ads.recall_funnel, rows), day)
    return warehouse.write(ads.recall_funnel, frame, [day])[day]


def _publish_predictions(warehouse: Warehouse, day: date, records: Iterable[RunRecord]) -> int:
    """Replace each model's predictions by those of its newest run that predicted."""
    # Records are ordered by their end: the last of a model stays.
    newest = {record["model"]: record for record in records if (record["folder"] / PREDICTIONS).exists()}
    if not newest:
        return 0
    present = warehouse.read(ads.prediction, [day])
    run_ids = _run_ids(present)
    # `predict-deepfm` is the run, deepfm the model.
    new = {name.removeprefix("predict-"): record for name, record in newest.items() if record["run_id"] not in run_ids}
    if not new:
        return 0
    frames = [present.where(~F.col("model").isin(list(new)))]
    for model, record in new.items():
        predictions = warehouse.spark.read.parquet(file_url(record["folder"] / PREDICTIONS))
        named = predictions.withColumns({"run_id": F.lit(record["run_id"]), "model": F.lit(model)})
        frames.append(ads.prediction.with_partition(named, day))
    return warehouse.write(ads.prediction, reduce(DataFrame.unionByName, frames), [day])[day]


def _publish_lists(warehouse: Warehouse, runs_folder: Path, day: date) -> int:
    """Replace ads_recommendation of the day by the lists of its promoted ranking run."""
    promotion = runs_folder / PROMOTED / f"{day}.json"
    if not promotion.exists():
        return 0
    file = run_folder(runs_folder, read_json(promotion, "recommend")["recommend"]) / RECOMMENDATIONS
    lists = ads.recommendation.with_partition(warehouse.spark.read.parquet(file_url(file)), day)
    return warehouse.write(ads.recommendation, lists, [day])[day]
