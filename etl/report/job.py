"""The report of a day: stages with rows and seconds, metrics beside the best possible: `millrace report`."""

import sys
from collections.abc import Sequence
from datetime import date

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from conf import Config
from conf.console.terminal import one_printable_line
from etl.tables import ads, ops
from etl.warehouse.store import Warehouse

CONSOLE_WIDTH = 120  # without a terminal: the widest table fits
LEFT_ALIGNED = ("stage", "model", "list", "status")
# The simulator's true click probabilities, scored like a model: see `ads_model_metric.model`.
BOUNDS = ("best_learnable", "best_possible")  # of generated days: what no model is expected to reach


def run(spark: SparkSession, config: Config, day: date) -> dict[str, object]:
    """Print the report of a day to stderr.

    Args:
        spark: the session.
        config: where the warehouse is.
        day: the day.

    Returns:
        The day, and how many stages and metrics it has.
    """
    stages = [row.asDict() for row in newest_stages(spark, config, day).collect()]
    newest = newest_metrics(spark, config, day).orderBy("stage", "model", "split", "metric")
    metrics = [row.asDict() for row in newest.collect()]
    console = report_console()
    console.print(rows_table(f"Stages of {day}", stages))
    console.print(metric_table(f"Click models of {day}", metrics))
    console.print(list_table(f"Lists of {day}", metrics))
    return {"day": str(day), "stages": len(stages), "metrics": len(metrics)}


def newest_metrics(spark: SparkSession, config: Config, day: date | None) -> DataFrame:
    """The newest value of every model, stage, split, metric and k: of one day, or over all days for None."""
    rows = Warehouse(spark, config).read(ads.model_metric, None if day is None else [day])
    # Run ids break ties of runs that ended at the same time.
    newest_first = Window.partitionBy("model", "stage", "split", "metric", "k").orderBy(
        F.desc("trained_at"), F.desc("run_id")
    )
    columns = ["dt", "model", "stage", "split", "metric", "k", "value", "rows", "run_id"]
    return rows.withColumn("n", F.row_number().over(newest_first)).where("n = 1").select(*columns)


def newest_stages(spark: SparkSession, config: Config, day: date) -> DataFrame:
    """The newest run of each stage of a day, in the order of their starts, with row counts and seconds."""
    newest_first = Window.partitionBy("stage").orderBy(F.desc("ended_at"))
    seconds = (F.col("ended_at").cast("double") - F.col("started_at").cast("double")).alias("seconds")
    columns = ["stage", "status", "rows_in", "rows_out", "rows_invalid", "rows_quarantined", "rows_other_date"]
    return (
        Warehouse(spark, config)
        .read(ops.run, [day])
        .withColumn("n", F.row_number().over(newest_first))
        .where("n = 1")
        .orderBy("started_at")
        .select(*columns, seconds)
    )


def rows_table(title: str, rows: Sequence[dict[str, object]]) -> RichTable:
    """Rows as a table for the terminal.

    Args:
        title: printed above it.
        rows: with the same keys, which become the headings.
    """
    table = RichTable(title=title, title_justify="left")
    for name in rows[0] if rows else ["(nothing)"]:
        table.add_column(name.removeprefix("rows_"), justify="left" if name in LEFT_ALIGNED else "right")
    for row in rows:
        table.add_row(*[Text(one_printable_line(format_cell(value))) for value in row.values()])
    return table


def metric_table(title: str, metrics: Sequence[dict[str, object]]) -> RichTable:
    """AUC and log loss of every click model, by ascending test AUC, the best possible last.

    Args:
        title: printed above it.
        metrics: rows of `newest_metrics`.
    """
    by_model: dict[str, dict[str, object]] = {}
    for row in metrics:
        if row["metric"] in ("auc", "log_loss"):
            by_model.setdefault(str(row["model"]), {})[f"{row['split']} {row['metric']}"] = row["value"]
    # False sorts before True: bounds go last whatever their AUC.
    ordered = sorted(by_model.items(), key=lambda item: (item[0] in BOUNDS, item[1].get("test auc", 0)))
    names = ["valid auc", "valid log_loss", "test auc", "test log_loss"]
    rows = [{"model": model, **{name: values.get(name) for name in names}} for model, values in ordered]
    return rows_table(title, rows)


def list_table(title: str, metrics: Sequence[dict[str, object]], k: int = 10) -> RichTable:
    """Recall, nDCG and MAP at k of the recall channels and of each ranking step, on the day's clicks.

    Generated days know better what a list is worth: their `value_share@k` comes first.

    Args:
        title: printed above it.
        metrics: rows of `newest_metrics`.
        k: length of the lists.
    """
    metric_names = ("value_share", "recall", "ndcg", "map")
    by_list: dict[str, dict[str, object]] = {}
    for row in metrics:
        is_shown = row["metric"] in metric_names and (row["split"] == "holdout" or row["metric"] == "value_share")
        if row["k"] == k and is_shown:  # rules of re-ranking have prices, and no lists of their own
            by_list.setdefault(f"{row['stage']}: {row['model']}", {})[f"{row['metric']}@{k}"] = row["value"]
    names = [f"{name}@{k}" for name in metric_names if any(row["metric"] == name for row in metrics)]
    # Descending: "recall: …" before "evaluate: …", "fine: …" and "coarse: …".
    ordered = sorted(by_list.items(), reverse=True)
    rows = [{"list": name, **{metric: values.get(metric) for metric in names}} for name, values in ordered]
    return rows_table(title, rows)


def report_console() -> Console:
    """A console on standard error: standard output is for the command's JSON line."""
    width = None if sys.stderr.isatty() else CONSOLE_WIDTH
    return Console(stderr=True, width=width)


def format_cell(value: object) -> str:
    """A value as text: nothing for None, four decimal places for a float."""
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)
