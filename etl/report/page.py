"""A day on one page: `millrace report --date D` writes `<home>/reports/D.html`, which needs no network and no server.

Each chart is a function of a Reader and returns a figure, or None where there is nothing to show.
"""

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import plotly.io
from plotly.offline import get_plotlyjs
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from conf import Config, Paths
from conf.atomic import write_atomically
from etl.report.job import newest_metrics, stages_of
from etl.table import Table
from etl.tables import ads, ods
from etl.warehouse.store import Warehouse

DAYS = 30  # of the charts over time
COLOURS = ["#2b6cb0", "#dd6b20", "#2f855a", "#805ad5", "#c53030", "#319795", "#b7791f", "#4a5568"]
BEST = "best_possible"

Rows = list[dict[str, Any]]
Figure = Any


@dataclass(frozen=True)
class Reader:
    """The tables of a day, and of the days before it."""

    spark: SparkSession
    config: Config
    day: date

    def rows(self, table: Table, *, days: int = 1) -> DataFrame:
        """Partitions of the last `days` days."""
        warehouse = Warehouse(self.spark, self.config)
        return warehouse.read(table, [self.day - timedelta(days=back) for back in range(days)])

    @cached_property
    def metrics(self) -> Rows:
        """The newest numbers of the day's models."""
        return _dicts(newest_metrics(self.spark, self.config, self.day))

    @cached_property
    def stages(self) -> Rows:
        """The newest run of each stage of the day."""
        return _dicts(stages_of(self.spark, self.config, self.day))


def write(spark: SparkSession, config: Config, day: date) -> Path:
    """Write the page; a reader sees the one before until the new one is whole. Returns its path."""
    reader = Reader(spark, config, day)
    parts: list[str] = []
    for title, about, chart in CHARTS:
        figure = chart(reader)
        body = _drawn(figure) if figure is not None else '<p class="empty">nothing for this day</p>'
        parts.append(f"<section><h2>{html.escape(title)}</h2><p>{html.escape(about)}</p>{body}</section>")
    path = config.get(Paths).root / "reports" / f"{day}.html"
    write_atomically(path, PAGE.format(day=day, plotly=get_plotlyjs(), sections="\n".join(parts)))
    return path


def _traffic(reader: Reader) -> Figure:
    found = _dicts(reader.rows(ads.pv_hourly).orderBy("hour"))
    if not found:
        return None
    hours = [row["hour"] for row in found]
    return go.Figure(
        [
            go.Bar(x=hours, y=[row["pvs"] for row in found], name="page views"),
            go.Bar(x=hours, y=[row["pvs_human"] for row in found], name="of people"),
        ]
    ).update_layout(barmode="overlay", xaxis_title="hour (UTC)")


def _referrers(reader: Reader) -> Figure:
    hosts = reader.rows(ads.pv_ref_host_hourly).groupBy("ref_host").agg(F.sum("pvs").alias("pvs"))
    found = _dicts(hosts.orderBy(F.desc("pvs"), "ref_host").limit(10))[::-1]
    if not found:
        return None
    return go.Figure(go.Bar(x=[r["pvs"] for r in found], y=[r["ref_host"] or "(none)" for r in found], orientation="h"))


def _funnel(reader: Reader) -> Figure:
    found = _dicts(reader.rows(ads.funnel).orderBy("step"))
    if not found:
        return None
    return go.Figure(go.Funnel(y=[row["step"] for row in found], x=[row["numbs"] for row in found]))


def _ctr(reader: Reader) -> Figure:
    found = _dicts(reader.rows(ads.ctr_daily, days=DAYS).orderBy("dt"))
    if not found:
        return None
    figure = go.Figure(_line([row["dt"] for row in found], [row["ctr"] for row in found], "CTR"))
    return figure.update_layout(yaxis_tickformat=".2%", xaxis_type="category")


def _auc(reader: Reader) -> Figure:
    rows = reader.rows(ads.model_metric, days=DAYS).where("metric = 'auc' and split = 'test' and value is not null")
    newest = rows.groupBy("dt", "model").agg(F.max_by("value", "trained_at").alias("value"))
    found = _dicts(newest.orderBy("dt", "model"))
    return _by_day(found, "model", "value")


def _recall(reader: Reader) -> Figure:
    rows = reader.rows(ads.recall_daily, days=DAYS)
    deepest = rows.agg(F.max("k")).first()
    if deepest is None or deepest[0] is None:
        return None
    found = _dicts(rows.where(F.col("k") == deepest[0]).orderBy("dt", "channel"))
    return _by_day(found, "channel", "recall")


def _calibration(reader: Reader) -> Figure:
    """Ten bins of as many rows each, by prediction: metrics `calibration_predicted` and `calibration_clicked`."""
    curves: dict[str, dict[str, dict[int, float]]] = {}
    for row in reader.metrics:
        if row["metric"].startswith("calibration_") and row["split"] == "test":
            curves.setdefault(row["model"], {}).setdefault(row["metric"], {})[row["k"]] = row["value"]
    if not curves:
        return None
    figure = go.Figure()
    highest = 0.0
    for model, curve in sorted(curves.items()):
        bins = sorted(curve["calibration_predicted"])
        x = [curve["calibration_predicted"][k] for k in bins]
        y = [curve["calibration_clicked"][k] for k in bins]
        highest = max([highest, *x, *y])
        figure.add_scatter(x=x, y=y, mode="lines+markers", name=model)
    figure.add_scatter(x=[0, highest], y=[0, highest], mode="lines", name="perfect", line={"dash": "dot"})
    return figure.update_layout(xaxis_title="predicted", yaxis_title="clicked")


def _channels(reader: Reader) -> Figure:
    rows = [row for row in reader.metrics if row["stage"] == "recall" and row["split"] == "holdout"]
    deepest = max((row["k"] for row in rows if row["k"]), default=None)
    found = {(row["model"], row["metric"]): row["value"] for row in rows if row["k"] == deepest}
    names = sorted({name for name, metric in found if metric == "only"}, key=lambda name: -found[name, "only"])
    if not names:
        return None
    return go.Figure(
        [
            go.Bar(x=names, y=[found.get((name, "recall")) for name in names], name=f"recall@{deepest}"),
            go.Bar(x=names, y=[found[name, "only"] for name in names], name="of it, found by no other"),
        ]
    ).update_layout(barmode="overlay")


def _tuning(reader: Reader) -> Figure:
    rows = reader.rows(ads.tuning_trial, days=DAYS).where("status != 'failed'").orderBy("dt", "run_id", "trial")
    found = _dicts(rows)
    if not found:
        return None
    figure = go.Figure()
    runs = list(dict.fromkeys((row["run_id"], row["model"], row["dt"], row["metric"]) for row in found))
    for run_id, model, dt, metric in runs[-6:]:
        of = [row for row in found if row["run_id"] == run_id]
        figure.add_scatter(
            x=[row["trial"] for row in of],
            y=[row["value"] for row in of],
            text=[row["parameters"] for row in of],
            mode="markers",
            marker={"symbol": ["circle" if row["status"] == "done" else "x" for row in of]},
            name=f"{model} {dt}: {metric}",
        )
    return figure.update_layout(xaxis_title="trial")


def _stages(reader: Reader) -> Figure:
    found = reader.stages
    if not found:
        return None
    return go.Figure(
        go.Bar(
            x=[row["seconds"] for row in found], y=[row["stage"] for row in found], orientation="h",
            marker_color=["#c53030" if row["status"] == "failed" else COLOURS[0] for row in found],
        )
    ).update_layout(xaxis_title="seconds", yaxis_autorange="reversed")  # fmt: skip


def _rows(reader: Reader) -> Figure:
    found = reader.stages
    if not found:
        return None
    names = ["stage", "status", "rows_in", "rows_out", "rows_invalid", "rows_quarantined", "rows_other_date"]
    return _table(names, [[row[name] for row in found] for name in names])


def _quarantine(reader: Reader) -> Figure:
    counted = reader.rows(ods.quarantine).groupBy("stage", "reason").count()
    found = _dicts(counted.orderBy(F.desc("count"), "stage", "reason"))
    if not found:
        return None
    labels = [f"{row['stage']}: {row['reason']}" for row in found]
    return go.Figure(go.Bar(x=labels, y=[row["count"] for row in found]))


def _features(reader: Reader) -> Figure:
    rows = [row for row in reader.metrics if row["stage"] == "report" and " " in row["metric"]]
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        metric, feature = row["metric"].split(" ", 1)
        found.setdefault(feature, {})[metric] = row["value"]
    if not found:
        return None
    names = ["missing", "psi", "information", "vif"]
    ordered = sorted(found, key=lambda feature: -found[feature].get("psi", 0.0))
    columns = [[_short(found[feature].get(name)) for feature in ordered] for name in names]
    return _table(["feature", *names], [ordered, *columns])


CHARTS: Sequence[tuple[str, str, Callable[[Reader], Figure]]] = (
    ("Traffic by hour", "Page views, and those that are not by a known crawler.", _traffic),
    ("Top referrers", "Hosts that page views came from.", _referrers),
    ("Funnel", "Visitors who came so far within one visit.", _funnel),
    ("CTR over days", "Clicks / impressions.", _ctr),
    ("AUC over days", "Test rows of each day; the dotted line is the best that any model could reach.", _auc),
    ("Recall over days", "Clicked items among those proposed, mean over users, at the largest k.", _recall),
    ("Calibration", "Click rate of test rows by predicted probability; ten bins of as many rows.", _calibration),
    ("Channels", "What each recall channel finds, and what no other does.", _channels),
    ("Tuning", "Trials of the last searches; crosses were stopped early.", _tuning),
    ("Stage times", "Newest run of each stage that keeps accounts.", _stages),
    ("Row accounts", "rows in = out + invalid + quarantined.", _rows),
    ("Quarantine", "Lines set apart, by stage and reason.", _quarantine),
    ("Features", "Share missing, drift (PSI) from training to test rows, information value, inflation.", _features),
)


def _by_day(found: Rows, name: str, value: str) -> Figure:
    """A line for each name over the days; the best possible dotted."""
    if not found:
        return None
    figure = go.Figure()
    for one in sorted({row[name] for row in found}):
        of = [row for row in found if row[name] == one]
        line = _line([row["dt"] for row in of], [row[value] for row in of], one)
        if one == BEST:
            line.line = {"dash": "dot", "color": "#1a202c"}
        figure.add_trace(line)
    return figure.update_layout(xaxis_type="category")


def _line(x: list[Any], y: list[Any], name: str) -> Any:
    return go.Scatter(x=x, y=y, mode="lines+markers", name=name)


def _table(header: list[str], columns: list[list[Any]]) -> Figure:
    return go.Figure(
        go.Table(
            header={"values": header, "align": "left", "fill_color": "#e2e8f0"},
            cells={"values": columns, "align": "left", "height": 24},
        )
    )


def _dicts(frame: DataFrame) -> Rows:
    return [row.asDict() for row in frame.collect()]


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _drawn(figure: Figure) -> str:
    figure.update_layout(
        template="plotly_white", colorway=COLOURS, height=360, margin={"l": 60, "r": 20, "t": 20, "b": 50}
    )
    text = str(plotly.io.to_json(figure)).replace("</", "<\\/")  # a text in it must not end the script
    return f'<div class="chart"></div><script type="application/json">{text}</script>'


PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>Millrace, {day}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 1400px; padding: 1rem; color: #1a202c; }}
main {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(560px, 100%), 1fr)); gap: 1rem; }}
section {{ border: 1px solid #e2e8f0; border-radius: 8px; padding: 1rem; min-width: 0; }}
h2 {{ margin: 0; font-size: 1.1rem; }}
p {{ margin: 0 0 .5rem; color: #4a5568; }}
.empty {{ color: #a0aec0; }}
</style>
<script>{plotly}</script>
</head>
<body>
<h1>{day}</h1>
<main>
{sections}
</main>
<script>
// Once the page is laid out: each chart takes its section's width.
for (const chart of document.querySelectorAll(".chart")) {{
  const figure = JSON.parse(chart.nextElementSibling.textContent);
  Plotly.newPlot(chart, figure.data, figure.layout, {{responsive: true, displaylogo: false}});
}}
</script>
</body>
</html>
"""
