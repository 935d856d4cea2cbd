"""What a day came to: stages with rows and seconds, metrics beside the best possible: `millrace report`."""

import sys
from collections.abc import Sequence
from datetime import date

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from rich.console import Console
from rich.table import Table as RichTable

from conf import Config
from etl.tables import ads, ops
from etl.warehouse.store import Warehouse


def newest_metrics(spark: SparkSession, config: Config, day: date | None) -> DataFrame:
    """The newest value of every (model, stage, split, metric, k), of one day or over all."""
    rows = Warehouse(spark, config).read(ads.model_metric, None if day is None else [day])
    newest = Window.partitionBy("model", "stage", "split", "metric", "k").orderBy(
        F.desc("trained_at"), F.desc("run_id")
    )
    columns = ["dt", "model", "stage", "split", "metric", "k", "value", "rows", "run_id"]
    return rows.withColumn("nth", F.row_number().over(newest)).where("nth = 1").select(*columns)


def stages_of(spark: SparkSession, config: Config, day: date) -> DataFrame:
    """The newest run of each stage of a day."""
    rows = Warehouse(spark, config).read(ops.run, [day])
    newest = Window.partitionBy("stage").orderBy(F.desc("ended_at"))
    seconds = (F.col("ended_at").cast("double") - F.col("started_at").cast("double")).alias("seconds")
    columns = ["stage", "status", "rows_in", "rows_out", "rows_invalid", "rows_quarantined", "rows_other_date"]
    return (
        rows.withColumn("nth", F.row_number().over(newest))
        .where("nth = 1")
        .orderBy("started_at")
        .select(*columns, seconds)
    )


def run(spark: SparkSession, config: Config, day: date) -> dict[str, object]:
    """Print the report of a day to stderr and return its numbers."""
    stages = [row.asDict() for row in stages_of(spark, config, day).collect()]
    metrics = [
        row.asDict()
        for row in newest_metrics(spark, config, day).orderBy("stage", "model", "split", "metric").collect()
    ]
    console = wide_console()
    console.print(rows_table(f"Stages of {day}", stages))
    console.print(metric_table(f"Click models of {day}", metrics))
    console.print(list_table(f"Lists of {day}", metrics))
    return {"day": str(day), "stages": len(stages), "metrics": len(metrics)}


def rows_table(title: str, rows: Sequence[dict[str, object]]) -> RichTable:
    """Any rows as a table."""
    table = RichTable(title=title, title_justify="left")
    for name in rows[0] if rows else ["(nothing)"]:
        table.add_column(
            name.removeprefix("rows_"), justify="left" if name in ("stage", "model", "list", "status") else "right"
        )
    for row in rows:
        table.add_row(*[_text(value) for value in row.values()])
    return table


def metric_table(title: str, metrics: Sequence[dict[str, object]]) -> RichTable:
    """AUC and log loss of every click model, worst first, the best possible last."""
    models: dict[str, dict[str, object]] = {}
    for row in metrics:
        if row["metric"] in ("auc", "log_loss"):
            models.setdefault(str(row["model"]), {})[f"{row['split']} {row['metric']}"] = row["value"]
    ordered = sorted(models.items(), key=lambda item: (item[0] == "best_possible", item[1].get("test auc", 0)))
    names = ["valid auc", "valid log_loss", "test auc", "test log_loss"]
    return rows_table(
        title, [{"model": model, **{name: values.get(name) for name in names}} for model, values in ordered]
    )


def list_table(title: str, metrics: Sequence[dict[str, object]], k: int = 10) -> RichTable:
    """Recall, nDCG and MAP at k of the channels and of each ranking step, on the day's clicks."""
    lists: dict[str, dict[str, object]] = {}
    for row in metrics:
        if row["k"] == k and row["split"] == "holdout":
            lists.setdefault(f"{row['stage']}: {row['model']}", {})[f"{row['metric']}@{k}"] = row["value"]
    names = [f"{metric}@{k}" for metric in ("recall", "ndcg", "map")]
    shown = sorted(lists.items(), reverse=True)
    return rows_table(
        title, [{"list": name, **{metric: values.get(metric) for metric in names}} for name, values in shown]
    )


def wide_console() -> Console:
    """Standard error, wide enough for the tables when it is no terminal."""
    return Console(stderr=True, width=None if sys.stderr.isatty() else 120)


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)
