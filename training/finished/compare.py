"""Which model to take, and where its loss comes from (T17): one metric to optimise, others only to satisfy."""

from datetime import date
from pathlib import Path
from typing import Any

from conf import Config, Paths, UserError
from conf.runs import finished_runs, read_jsonl
from training.finished.limits import Limit, sign_of
from training.finished.trained import TrainedModel, batches_of, latency_ms, load_trained_model, stored_mb
from training.inputs.batch import Batch
from training.inputs.sampling import is_train_dev
from training.saved import NET
from training.settings import TrainSettings


def choose(config: Config, day: date, best: str, limits: list[str]) -> dict[str, Any]:
    """Choose the best of the day's finished deep models within all limits. Loads each of them, to measure its latency.

    Args:
        best: the validation metric to optimise, e.g. `auc`; whether larger is better follows from its name.
        limits: satisficing limits such as `latency_ms<=5`.

    Returns:
        `best`, its run id; the metric; `models`, a row of metrics for each model; `kept_limits`, how many are within
        the limits.

    Raises:
        UserError: no model of the day has the metric and is within the limits, or a limit is not one.
    """
    bounds = [Limit.parse(text) for text in limits]
    runs = [
        run
        for run in finished_runs(config.get(Paths).runs)
        if run["dt"] == day.isoformat() and (run["folder"] / "model" / NET).exists()
    ]
    rows = [_valid_metrics(config, run["run_id"], run["folder"]) for run in runs]
    # A model of another task may not have the metric at all.
    feasible = [row for row in rows if best in row and all(bound.is_satisfied(row) for bound in bounds)]
    if not feasible:
        constraints = ", ".join(limits) or "no limit"
        raise UserError(f"none of {len(rows)} deep models of {day} has {best} and is within {constraints}")
    winner = max(feasible, key=lambda row: sign_of(best) * row[best])
    return {"best": winner["run_id"], best: winner[best], "models": rows, "kept_limits": len(feasible)}


def gap(config: Config, run_id: str, best_possible: float = 0.0) -> dict[str, Any]:
    """Split the loss of a run into bias, variance and data mismatch (Ng, Machine Learning Yearning, ch. 41).

    bias = training rows − expected best; variance = held-out rows of the training days (`train.train_dev`) − training
    rows; mismatch = validation rows − held-out rows. All are mean losses.

    Args:
        run_id: a run that was trained with the same `train.train_dev` as is set now.
        best_possible: mean loss of the true probabilities, or 0.

    Raises:
        UserError: `train.train_dev` is not set, or there is no such run.
    """
    trained = load_trained_model(config, run_id)
    settings = config.get(TrainSettings)
    if not settings.train_dev:
        raise UserError("set train.train_dev to the share that the run was trained with, and train with one")
    # Which rows were held out follows from a hash of each row, so nothing had to be saved.
    train, train_dev = (_mean_loss(trained, "train", settings, is_held_out) for is_held_out in (False, True))
    valid, test = (trained.measure(split)["log_loss"] for split in ("valid", "test"))
    losses = {"train": train, "train_dev": train_dev, "valid": valid, "test": test}
    parts = {"bias": train - best_possible, "variance": train_dev - train, "mismatch": valid - train_dev}
    return {"run_id": run_id, "log_loss": losses, **parts, "largest": max(parts, key=lambda name: parts[name])}


def _mean_loss(trained: TrainedModel, split: str, settings: TrainSettings, is_held_out: bool) -> float:
    """Mean loss of the rows of a split that are (or are not) held out. Raises UserError when there are none."""
    total, rows = 0.0, 0
    for batch in batches_of(trained, split):
        is_selected = is_train_dev(batch, settings) == is_held_out
        selected: Batch = batch[is_selected.nonzero().flatten().numpy()]
        if len(selected):  # no metric is defined without rows
            metrics = trained.task.measure(trained.objective.predict(selected).numpy(), selected.label.numpy())
            total, rows = total + metrics["log_loss"] * len(selected), rows + len(selected)
    if not rows:
        raise UserError(f"no rows of {split} are {'held out' if is_held_out else 'trained on'}")
    return total / rows


def _valid_metrics(config: Config, run_id: str, folder: Path) -> dict[str, Any]:
    """Metrics of a run's validation rows as `metric` or `metric@k`, its latency in ms and its size in MB."""
    rows = [row for row in read_jsonl(folder / "metrics.jsonl") if row["split"] == "valid"]
    metrics = {row["metric"] if row["k"] is None else f"{row['metric']}@{row['k']}": row["value"] for row in rows}
    trained = load_trained_model(config, run_id)
    size_mb = stored_mb(trained.net.state_dict())
    return {"run_id": run_id, **metrics, "latency_ms": latency_ms(trained), "size_mb": size_mb}
