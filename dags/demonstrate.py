"""`millrace demo`: a generated week, the whole last day on it, and a summary that says where everything is."""

import logging
import time
from datetime import date
from typing import Any

from conf import Config, Paths
from dags.stages import DEMO
from dags.walk import engines, walk

log = logging.getLogger(__name__)


def run(config: Config, *, days: int, scale: float, seed: int) -> dict[str, Any]:
    """Simulate, walk the stages with a small search before publishing, and print a summary.

    Returns:
        The day, the seconds of each stage, and the test metrics of each model."""
    from etl.simulator import simulate

    started = time.monotonic()
    simulated = simulate.run(config, days=days, scale=scale, seed=seed)
    done = [{"stage": "simulate", "seconds": round(time.monotonic() - started, 1), "counts": simulated}]
    # All days are loaded, so that features have a past; the other stages run for the last day alone.
    day, since = str(simulated["last_day"]), str(simulated["first_day"])
    with engines(config) as open_engines:
        done += walk(open_engines, DEMO, day, since=since)
        metrics = _print_summary(config, date.fromisoformat(day), done)
    seconds = time.monotonic() - started
    log.info("the whole day took %.0f s", seconds)
    return {
        "date": day,
        "seconds": {row["stage"]: row["seconds"] for row in done},
        "total_s": round(seconds, 1),
        **metrics,
    }


def _print_summary(config: Config, day: date, done: list[dict[str, Any]]) -> dict[str, float]:
    """Print the stages, the metrics and what to try next; returns the test metrics by `model_metric`."""
    from etl.report.job import list_table, metric_table, newest_metrics, report_console, rows_table
    from etl.session import spark_session

    console = report_console()
    with spark_session(config) as spark:
        metrics = [row.asDict() for row in newest_metrics(spark, config, day).orderBy("stage", "model").collect()]
    console.print()
    console.print(rows_table("Stages", [_line(row) for row in done]))
    console.print(metric_table("Click models, and what the true click probabilities are expected to reach", metrics))
    console.print(list_table("Lists, measured on the last day's clicks", metrics))
    paths = config.get(Paths)
    console.print(
        f"\nPage     {paths.root / 'reports' / f'{day}.html'}\nTables   {paths.warehouse}\nModels   {paths.runs}\n"
        f"Logs     {paths.root / 'landing'}\n\n"
        "Try next:\n"
        f"  .venv/bin/millrace recsys recommend u42\n"
        f'  .venv/bin/millrace sql "select hour, pvs from ads_pv_hourly order by pvs desc limit 5"\n'
        f"  .venv/bin/millrace metrics --date {day}\n"
        f"  .venv/bin/millrace warehouse describe dwd_impression\n"
        f"  .venv/bin/millrace train deepfm --date {day} --set train.epochs=3\n\n"
        "Lists over HTTP that follow the next click (docs/serving.md):\n"
        "  .venv/bin/millrace serve\n"
        """  curl -s localhost:8080/v1/recommend -d '{"user": "u42", "n": 3}'\n"""
        "  curl -s localhost:8080/v1/events "
        """-d '{"event_id": "e1", "type": "click", "user_id": "u42", "item_id": "i7"}'"""
    )
    shown = [row for row in metrics if row["metric"] in ("auc", "log_loss") and row["split"] == "test"]
    return {f"{row['model']}_{row['metric']}": round(row["value"], 4) for row in shown}


def _line(row: dict[str, Any]) -> dict[str, Any]:
    """A stage with its seconds and the rows that came out."""
    counts = row["counts"] if isinstance(row["counts"], dict) else {}
    rows = counts.get("rows_out", counts.get("impressions", ""))
    quarantined = counts.get("rows_quarantined", "")
    return {"stage": row["stage"], "rows": rows, "quarantined": quarantined, "seconds": f"{row['seconds']:.1f}"}
