"""What a search has shown: the importance of each setting, its history, and parallel coordinates, on one page."""

import json
import math
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from conf.atomic import write_atomically
from tuning.searches.samplers import new_study
from tuning.searches.space import Choice, Depends, Range, Space

PAGE = "search.html"
MIN_TRIALS = 4  # below, an importance would be noise


def write(folder: Path, rows: list[dict[str, Any]], space: Space, metric: str) -> dict[str, float]:
    """Write `search.html` into the run folder; returns the importance of each setting, which add up to 1."""
    study = _study(rows, space)
    importance = _importance(study)
    _draw(folder / PAGE, rows, space, metric, importance)
    return importance


def _study(rows: list[dict[str, Any]], space: Space) -> optuna.Study:
    """The measured trials as an Optuna study: population-based training has no study of its own."""
    study = new_study()
    measured = [row for row in rows if row["status"] != "failed" and math.isfinite(row["objective"])]
    distributions = {
        name: _distribution(bounds, [row["point"][name] for row in measured]) for name, bounds in space.ranges.items()
    }
    # A setting that is not in every trial would be left out of the importances: `rate[adam]` is `rate` here.
    for row in measured:
        parameters = {name: Choice.parameter(value) for name, value in row["point"].items()}
        study.add_trial(
            create_trial(
                params=parameters, distributions=distributions, value=row["objective"], state=TrialState.COMPLETE
            )
        )
    return study


def _distribution(bounds: Range, values: list[Any]) -> BaseDistribution:
    """The range, or as far as the trials went: population based training leaves it."""
    if isinstance(bounds, Choice):
        return CategoricalDistribution(bounds.grid(len(bounds.values)))
    at = bounds.widest() if isinstance(bounds, Depends) else bounds
    low, high = min([at.low, *values]), max([at.high, *values])
    if at.whole:
        return IntDistribution(int(low), int(high), log=at.log)
    return FloatDistribution(low, high, log=at.log)


def _importance(study: optuna.Study) -> dict[str, float]:
    """By how much each setting explains the differences between trials (PED-ANOVA, Watanabe et al. 2023)."""
    # Equal values have no differences to explain.
    if len(study.trials) < MIN_TRIALS or len({trial.value for trial in study.trials}) < 2:
        return {}
    # What sets the best quarter of the trials apart, rather than what moves the value anywhere.
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.25)
    importances = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: round(float(value), 4) for name, value in importances.items()}


def _draw(path: Path, rows: list[dict[str, Any]], space: Space, metric: str, importance: dict[str, float]) -> None:
    """History, parallel coordinates and importance as one page that needs no network."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    from etl.report.embedding import figure_json, render

    measured = [row for row in rows if row["status"] != "failed"]
    figure = make_subplots(
        rows=3, cols=1, row_heights=[0.3, 0.45, 0.25], vertical_spacing=0.1,
        specs=[[{"type": "xy"}], [{"type": "domain"}], [{"type": "xy"}]],
        subplot_titles=[f"{metric} of each trial", "", "importance"],
    )  # fmt: skip
    # Of trials that ran to their end: a stopped one's metric is of fewer steps.
    best, value, line = math.inf, None, []
    for row in measured:
        if row["status"] == "done" and row["objective"] < best:
            best, value = row["objective"], row["value"]
        line.append(value)
    numbers = [row["trial"] for row in measured]
    for status in ("done", "stopped"):
        of = [row for row in measured if row["status"] == status]
        figure.add_scatter(
            x=[row["trial"] for row in of], y=[row["value"] for row in of], mode="markers", name=status,
            text=[json.dumps(row["point"], default=str) for row in of], row=1, col=1,
        )  # fmt: skip
    figure.add_scatter(x=numbers, y=line, mode="lines", name="best so far", row=1, col=1)
    figure.add_trace(go.Parcoords(**_parallel(measured, space, metric)), row=2, col=1)
    figure.add_bar(x=list(importance.values()), y=list(importance), orientation="h", showlegend=False, row=3, col=1)
    figure.update_layout(height=1100, title="Search", template="plotly_white")
    write_atomically(path, render("figure.html.j2", title="Search", figure=figure_json(figure)))


def _parallel(rows: list[dict[str, Any]], space: Space, metric: str) -> dict[str, Any]:
    """Axes of the parallel coordinates: exponents for logarithmic ranges, indices for choices."""
    axes = []
    for name, bounds in space.ranges.items():
        values = [row["point"][name] for row in rows]
        if isinstance(bounds, Choice):
            # Plotly's axes are of numbers: a choice is drawn by its index.
            indices = [bounds.values.index(value) if value in bounds.values else 0 for value in values]
            axes.append(
                {"label": name, "values": indices, "tickvals": list(range(len(bounds.values))),
                 "ticktext": [str(value) for value in bounds.values]}
            )  # fmt: skip
        elif isinstance(bounds, Depends) or bounds.log:
            # Not all that depends on a choice is logarithmic: it may be 0.
            axes.append({"label": f"{name} (10^)", "values": [math.log10(max(value, 1e-30)) for value in values]})
        else:
            axes.append({"label": name, "values": values})
    scores = [row["value"] for row in rows]
    axes.append({"label": metric, "values": scores})
    return {"line": {"color": scores, "colorscale": "Viridis", "showscale": True}, "dimensions": axes}
