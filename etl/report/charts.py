"""The charts of the report page: each is a function that reads a day's tables and returns a Plotly figure.

A function returns None where there is nothing to show, and numbers or a table where a chart would have a lone point. To
add a chart, write a function and list it in `CHARTS`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import plotly.graph_objects as go
from plotly.subplots import make_subplots
from pyspark.sql import functions as F

from etl.report.day_tables import DayTables, Rows, collect_rows
from etl.report.job import BOUNDS, format_cell
from etl.report.parts import Numbers, Table, share
from etl.settings import SiteSettings
from etl.tables import ads

DAYS = 30  # of the charts over time
SEARCHES = 6  # of the chart of trials
# All of them are legible on white and on the page's dark background.
COLOURS = ["#3182ce", "#dd6b20", "#38a169", "#9f7aea", "#e53e3e", "#319795", "#d69e2e", "#718096"]
FAILED_COLOUR = "#e53e3e"
BOUND_LINE = {"dash": "dot", "color": "#718096"}

Figure = Any  # plotly has no types


# --- web logs and events ---


def _traffic(tables: DayTables) -> Figure:
    rows = collect_rows(tables.read(ads.pv_hourly).orderBy("hour"))
    if not rows:
        return None
    hours = [row["hour"] for row in rows]
    bars = [
        go.Bar(x=hours, y=[row["pvs"] for row in rows], name="page views"),
        go.Bar(x=hours, y=[row["pvs_human"] for row in rows], name="of people"),
    ]
    zone = tables.config.get(SiteSettings).timezone
    # Overlaid: people's views are a part of all views.
    return go.Figure(bars).update_layout(barmode="overlay", xaxis_title=f"hour ({zone or 'of the log'})")


def _referrers(tables: DayTables) -> Figure:
    hosts = tables.read(ads.pv_ref_host_hourly).groupBy("ref_host").agg(F.sum("pvs").alias("pvs"))
    # Horizontal bars are drawn from below: the largest comes last.
    rows = collect_rows(hosts.orderBy(F.desc("pvs"), "ref_host").limit(10))[::-1]
    if not rows:
        return None
    names = [row["ref_host"] or "(none)" for row in rows]
    return go.Figure(go.Bar(x=[row["pvs"] for row in rows], y=names, orientation="h"))


def _funnel(tables: DayTables) -> Figure:
    rows = collect_rows(tables.read(ads.funnel).orderBy("step"))
    if not rows:
        return None
    return go.Figure(go.Funnel(y=[row["step"] for row in rows], x=[row["numbs"] for row in rows]))


def _click_rate(tables: DayTables) -> Figure:
    rows = collect_rows(tables.read(ads.ctr_daily, days=DAYS).orderBy("dt"))
    if not rows:
        return None
    if len(rows) == 1:
        return Numbers([("CTR", share(rows[0]["clicks"], rows[0]["impressions"]).text)])
    line = go.Scatter(x=[row["dt"] for row in rows], y=[row["ctr"] for row in rows], mode="lines+markers", name="CTR")
    return go.Figure(line).update_layout(yaxis_tickformat=".2%", xaxis_type="category")


# --- models and lists ---


def _auc(tables: DayTables) -> Figure:
    rows = tables.read(ads.model_metric, days=DAYS).where("metric = 'auc' and split = 'test' and value is not null")
    # A day's models may be trained more than once.
    newest = rows.groupBy("dt", "model").agg(F.max_by("value", "trained_at").alias("value"))
    return _lines_over_days(collect_rows(newest.orderBy("dt", "model")), "model", "value")


def _recall(tables: DayTables) -> Figure:
    rows = tables.read(ads.recall_daily, days=DAYS)
    largest = rows.agg(F.max("k")).first()
    if largest is None or largest[0] is None:
        return None
    at_largest = rows.where(F.col("k") == largest[0]).orderBy("dt", "channel")
    return _lines_over_days(collect_rows(at_largest), "channel", "recall")


def _calibration(tables: DayTables) -> Figure:
    """Reliability diagram: mean prediction and click rate of ten bins of equal size; a metric's k is the bin."""
    curves: dict[str, dict[str, dict[int, float]]] = {}  # model -> metric -> bin -> value
    for row in tables.metrics:
        if row["metric"].startswith("calibration_") and row["split"] == "test":
            curves.setdefault(row["model"], {}).setdefault(row["metric"], {})[row["k"]] = row["value"]
    if not curves:
        return None
    figure = go.Figure()
    highest = 0.0
    for model, curve in sorted(curves.items()):
        bins = sorted(curve["calibration_predicted"])
        predicted = [curve["calibration_predicted"][k] for k in bins]
        clicked = [curve["calibration_clicked"][k] for k in bins]
        highest = max([highest, *predicted, *clicked])
        figure.add_scatter(x=predicted, y=clicked, mode="lines+markers", name=model)
    figure.add_scatter(x=[0, highest], y=[0, highest], mode="lines", name="perfect", line={"dash": "dot"})
    return figure.update_layout(xaxis_title="predicted", yaxis_title="clicked")


def _reliability(tables: DayTables) -> Figure:
    """Mean prediction and click rate of the stack's test rows by place and by the item's impressions before."""
    values: dict[str, dict[int, float]] = {}
    rows: dict[tuple[str, int], int] = {}
    for row in tables.metrics:
        if row["metric"].startswith(("position_", "exposure_")) and row["split"] == "test":
            values.setdefault(row["metric"], {})[row["k"]] = row["value"]
            rows[row["metric"], row["k"]] = row["rows"]
    if not values:
        return None
    figure = make_subplots(
        rows=1, cols=2, shared_yaxes=True, subplot_titles=("place in the list", "impressions before")
    )
    for column, name in enumerate(("position", "exposure"), start=1):
        for suffix, color in (("predicted", COLOURS[-1]), ("clicked", COLOURS[0])):
            metric = f"{name}_{suffix}"
            starts = sorted(values.get(metric, {}))
            figure.add_scatter(
                x=[f"{start}+" for start in starts],
                y=[values[metric][start] for start in starts],
                text=[f"{rows[metric, start]:,} rows" for start in starts],
                mode="lines+markers", name=suffix, line={"color": color}, showlegend=column == 1, row=1, col=column,
            )  # fmt: skip
    return figure.update_yaxes(tickformat=".1%")


def _channels(tables: DayTables) -> Figure:
    rows = [row for row in tables.metrics if row["stage"] == "recall" and row["split"] == "holdout"]
    largest = max((row["k"] for row in rows if row["k"]), default=None)
    values = {(row["model"], row["metric"]): row["value"] for row in rows if row["k"] == largest}
    # Metric `only`: clicked items that no other channel proposed. The merged list has none.
    names = sorted({model for model, metric in values if metric == "only"}, key=lambda name: -values[name, "only"])
    if not names:
        return None
    bars = [
        go.Bar(x=names, y=[values.get((name, "recall")) for name in names], name=f"recall@{largest}"),
        go.Bar(x=names, y=[values[name, "only"] for name in names], name="of it, found by no other"),
    ]
    return go.Figure(bars).update_layout(barmode="overlay")


def _recall_funnel(tables: DayTables) -> Figure:
    rows = collect_rows(tables.read(ads.recall_funnel).orderBy("step", F.desc("share"), "channel"))
    if not rows:
        return None
    names = [row["channel"] if row["stage"] == "recall" else row["stage"] for row in rows]
    error = {
        "type": "data",
        "array": [row["high"] - row["share"] for row in rows],
        "arrayminus": [row["share"] - row["low"] for row in rows],
    }
    bars = [
        go.Bar(x=names, y=[row["share"] for row in rows], error_y=error, name="share of the positives"),
        go.Bar(x=names, y=[(row["gain"] or 0) / row["positives"] for row in rows], name="of it, by no other channel"),
    ]
    return go.Figure(bars).update_layout(barmode="overlay", yaxis_tickformat=".0%", xaxis_type="category")


def _trials(tables: DayTables) -> Figure:
    rows = collect_rows(
        tables.read(ads.tuning_trial, days=DAYS).where("status != 'failed'").orderBy("dt", "run_id", "trial")
    )
    if not rows:
        return None
    if len(rows) == 1:
        trial = rows[0]
        return Numbers([(f"{trial['model']} {trial['dt']}: {trial['metric']}", format_cell(trial["value"]))])
    figure = go.Figure()
    searches = list(dict.fromkeys((row["run_id"], row["model"], row["dt"], row["metric"]) for row in rows))
    for run_id, model, dt, metric in searches[-SEARCHES:]:
        trials = [row for row in rows if row["run_id"] == run_id]
        figure.add_scatter(
            x=[row["trial"] for row in trials],
            y=[row["value"] for row in trials],
            text=[row["parameters"] for row in trials],
            mode="markers",
            marker={"symbol": ["circle" if row["status"] == "done" else "x" for row in trials]},
            name=f"{model} {dt}: {metric}",
        )
    return figure.update_layout(xaxis_title="trial")


def _features(tables: DayTables) -> Table | None:
    # The feature report writes its metrics as "psi user_id": metric and feature in one.
    by_feature: dict[str, dict[str, float]] = {}
    for row in tables.metrics:
        if row["stage"] == "report" and " " in row["metric"]:
            metric, feature = row["metric"].split(" ", 1)
            by_feature.setdefault(feature, {})[metric] = row["value"]
    if not by_feature:
        return None
    names = ["missing", "psi", "information", "vif"]
    ordered = sorted(by_feature, key=lambda feature: -by_feature[feature].get("psi", 0.0))
    rows = [{"feature": feature, **{name: by_feature[feature].get(name) for name in names}} for feature in ordered]
    return Table.of({name: name for name in ("feature", *names)}, rows)


# --- stages ---


def _stage_times(tables: DayTables) -> Figure:
    if not tables.stages:
        return None
    bars = go.Bar(
        x=[row["seconds"] for row in tables.stages],
        y=[row["stage"] for row in tables.stages],
        orientation="h",
        marker_color=[FAILED_COLOUR if row["status"] == "failed" else COLOURS[0] for row in tables.stages],
    )
    return go.Figure(bars).update_layout(xaxis_title="seconds", yaxis_autorange="reversed")


# --- parts of figures ---


def _lines_over_days(rows: Rows, name: str, value: str) -> Figure:
    """A line for each value of column `name` over the days; the best possible dotted. Numbers for a single day."""
    if not rows:
        return None
    if len({row["dt"] for row in rows}) == 1:
        return Numbers([(row[name], format_cell(row[value])) for row in rows])
    figure = go.Figure()
    for label in sorted({row[name] for row in rows}):
        points = [row for row in rows if row[name] == label]
        days, values = [row["dt"] for row in points], [row[value] for row in points]
        style = {"line": BOUND_LINE} if label in BOUNDS else {}
        figure.add_trace(go.Scatter(x=days, y=values, mode="lines+markers", name=label, **style))
    # Days as categories, for Plotly would put ticks between them; sorted, for not every line has the first day.
    return figure.update_layout(xaxis_type="category", xaxis_categoryorder="category ascending")


class Chart(NamedTuple):
    """A section of the page; `draw` returns a figure, numbers, a table, or None where there is nothing to show."""

    title: str
    description: str
    draw: Callable[[DayTables], Figure]


CHARTS: Sequence[Chart] = (
    Chart("Traffic by hour", "Page views, and those that are not by a known crawler.", _traffic),
    Chart("Top referrers", "Hosts that page views came from.", _referrers),
    Chart("Funnel", "Visitors who reached each step within one visit.", _funnel),
    Chart("CTR over days", "Clicks / impressions.", _click_rate),
    Chart(
        "AUC over days",
        "Test rows of each day; the dotted line is the AUC of the true click probabilities, the best to be expected.",
        _auc,
    ),
    Chart(
        "Recall over days", "Share of clicked items among the candidates, mean over users, at the largest k.", _recall
    ),
    Chart("Calibration", "Click rate of test rows by predicted probability, in ten bins of equal size.", _calibration),
    Chart(
        "Reliability by place and exposure",
        "The stack's mean prediction and the click rate of test rows, by place, and by how often the item was shown "
        "before: where the grey line is above the blue one, clicks are promised that do not come.",
        _reliability,
    ),
    Chart("Channels", "Recall of each channel, and the part of it that no other channel finds.", _channels),
    Chart(
        "Recall funnel",
        "Share of the positives held out that each channel proposes and that each step after it keeps, with 95 % "
        "intervals.",
        _recall_funnel,
    ),
    Chart("Tuning", "Trials of the last searches; crosses were stopped early.", _trials),
    Chart("Stage times", "Newest run of each stage that counts its rows.", _stage_times),
    Chart(
        "Features",
        "Share missing, drift (PSI) from training to test rows, information value, variance inflation factor.",
        _features,
    ),
)
