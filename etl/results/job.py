"""Run folders of training, ranking and tuning -> warehouse tables, each run exactly once: `millrace etl results`."""

import json
from collections.abc import Iterable
from datetime import date, datetime
from functools import reduce
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from conf import Config, Paths, file_url
from conf.runs import INPUTS, PREDICTIONS, PROMOTED, finished_runs, promotion_status, read_jsonl
from etl.stage import stage_run
from etl.table import Table
from etl.tables import ads, dim
from etl.warehouse.store import Warehouse


def run(spark: SparkSession, config: Config) -> dict[str, int]:
    """Add metrics, trials and answers of runs that the warehouse does not know; publish each day's promoted lists."""
    warehouse = Warehouse(spark, config)
    runs = finished_runs(config.get(Paths).runs)
    for found in runs:
        found["day"] = date.fromisoformat(found["dt"])
    days = sorted({found["day"] for found in runs})
    parts = promotion_status(config.get(Paths).runs)
    loaded = 0
    for day in days:
        of_day = [found for found in runs if found["day"] == day]
        with stage_run(warehouse, "results", [day]) as counts:
            added = _add_rows(warehouse, ads.model_metric, day, _metrics(of_day))
            added += _add_rows(warehouse, ads.tuning_trial, day, _trials(of_day))
            added += _add_rows(warehouse, ads.tuning_best, day, _best(of_day))
            added += _register(warehouse, day, of_day, parts)
            added += _publish_recall(warehouse, day)
            added += _add_predictions(warehouse, day, of_day)
            added += _publish_lists(warehouse, config.get(Paths).runs, day)
            counts[day].rows_in = counts[day].rows_out = added
        loaded += added
    return {"runs": len(runs), "rows_out": loaded}


def _add_rows(warehouse: Warehouse, table: Table, day: date, rows: Iterable[dict[str, Any]]) -> int:
    """Rows of runs that the partition does not hold yet, beside those it holds; run ids make it exactly once."""
    listed = list(rows)
    if not listed:
        return 0
    spark = warehouse.spark
    held = warehouse.read(table, [day])
    known = {row["run_id"] for row in held.select("run_id").distinct().collect()}
    fresh = [row for row in listed if row["run_id"] not in known]
    if not fresh:
        return 0
    frame = table.with_partition(_frame(spark, table, fresh), day)
    warehouse.write(table, held.unionByName(frame), [day])
    return len(fresh)


def _frame(spark: SparkSession, table: Table, rows: list[dict[str, Any]]) -> DataFrame:
    schema = ", ".join(f"`{column.name}` {column.type}" for column in table.columns)
    values = [tuple(row.get(name) for name in table.column_names) for row in rows]
    return spark.createDataFrame(values, schema)


def _metrics(runs: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    for found in runs:
        ended = datetime.fromisoformat(found["ended_at"])
        for row in read_jsonl(found["folder"] / "metrics.jsonl"):
            yield {**row, "run_id": found["run_id"], "trained_at": ended}


def _trials(runs: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    for found in runs:
        for row in read_jsonl(found["folder"] / "trials.jsonl"):
            yield {**row, "run_id": found["run_id"]}


def _best(runs: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    for found in runs:
        for row in read_jsonl(found["folder"] / "best.jsonl"):
            yield {**row, "run_id": found["run_id"]}


FACTS = ("dwd_impression", "dwd_interaction")  # tables whose partitions are the days that a model learned


def _register(warehouse: Warehouse, day: date, runs: Iterable[dict[str, Any]], parts: dict[str, str]) -> int:
    """dim_model of the day, written again when a run came or a part changed."""
    rows = [_about(found, parts) for found in runs if (found["folder"] / INPUTS).exists()]
    held = warehouse.read(dim.model, [day]).select("run_id", "part").collect()
    if {(row["run_id"], row["part"]) for row in rows} == {(row["run_id"], row["part"]) for row in held}:
        return 0
    frame = dim.model.with_partition(_frame(warehouse.spark, dim.model, rows), day)
    return warehouse.write(dim.model, frame, [day])[day]


def _about(found: dict[str, Any], parts: dict[str, str]) -> dict[str, Any]:
    inputs = read_jsonl(found["folder"] / INPUTS)
    data: dict[str, Any] = next((row for row in inputs if row["kind"] != "run"), {})
    days = [row["partition"] for row in data.get("sources", ()) if row["table"] in FACTS]
    shown = [row for row in read_jsonl(found["folder"] / "metrics.jsonl") if row["split"] in ("test", "holdout")]
    metrics = {
        row["metric"] + (f"@{row['k']}" if row["k"] else ""): row["value"]
        for row in shown
        if row["model"] == found["model"] and not row["metric"].startswith("calibration_")
    }
    return {
        "run_id": found["run_id"],
        "model": found["model"],
        "part": parts.get(found["run_id"], ""),
        "trained_at": datetime.fromisoformat(found["ended_at"]),
        "data_from": min(days, default=None),
        "data_to": max(days, default=None),
        "features": data.get("features"),
        "dataset": f"{data['kind']}/{data['dt']}/{data['version']}" if data else None,
        "code_version": found.get("code_version"),
        "metrics": json.dumps(metrics),
        "inputs": json.dumps(inputs),
    }


def _add_predictions(warehouse: Warehouse, day: date, runs: Iterable[dict[str, Any]]) -> int:
    """The newest answers of each model take the place of its older ones."""
    newest = {found["model"]: found for found in runs if (found["folder"] / PREDICTIONS).exists()}
    if not newest:
        return 0
    held = warehouse.read(ads.prediction, [day])
    known = {row["run_id"] for row in held.select("run_id").distinct().collect()}
    fresh = {model: found for model, found in newest.items() if found["run_id"] not in known}
    if not fresh:
        return 0
    names = {model: model.removeprefix("predict-") for model in fresh}
    frames = [held.where(~F.col("model").isin(list(names.values())))]
    for model, found in fresh.items():
        answers = warehouse.spark.read.parquet(file_url(found["folder"] / PREDICTIONS))
        named = answers.withColumns({"run_id": F.lit(found["run_id"]), "model": F.lit(names[model])})
        frames.append(ads.prediction.with_partition(named, day))
    table = reduce(lambda a, b: a.unionByName(b), frames)
    return warehouse.write(ads.prediction, table, [day])[day]


def _publish_lists(warehouse: Warehouse, runs: Path, day: date) -> int:
    """The promoted ranking run of the day replaces its lists whole."""
    promoted = runs / PROMOTED / f"{day}.json"
    if not promoted.exists():
        return 0
    file = runs / json.loads(promoted.read_text())["recommend"] / "recommendations.parquet"
    lists = ads.recommendation.with_partition(warehouse.spark.read.parquet(file_url(file)), day)
    return warehouse.write(ads.recommendation, lists, [day])[day]


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
