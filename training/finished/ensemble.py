"""Ensembles: the mean of several models, or their stacking by a regression on validation rows (T16).

Bagging is training: `--set train.bagging=true --set train.seed=N`, several times, then the mean.
"""

from typing import Any

import numpy as np

from conf import Config, UserError
from conf.console.cli import one_of
from conf.runs import start_run
from training.evaluate import Floats
from training.finished.trained import TrainedModel, load_trained_model
from training.tasks.task import table_metrics

METHODS = ("average", "stack")


def run(config: Config, run_ids: list[str], how: str) -> dict[str, Any]:
    """Combine runs of the same task and day into a run of its own.

    Args:
        how: `average`, the mean of the probabilities, or `stack`, weights fitted on the validation rows.

    Returns:
        Metrics of the ensemble and the log loss of each member, on the valid and test rows.

    Raises:
        UserError: fewer than two runs, or of different tasks or days, or not of clicks for `stack`.
    """
    one_of("way", how, METHODS)
    members = [load_trained_model(config, run_id) for run_id in run_ids]
    _require_same_task(members)
    first = members[0]
    # All predictions of all members are in memory: a few bytes a row and member.
    valid, test = ([member.predict(split) for member in members] for split in ("valid", "test"))
    weights = stacked_weights([predictions for predictions, _ in valid], valid[0][1]) if how == "stack" else None
    report: dict[str, Any] = {"how": how}
    with start_run(config, f"ensemble-{first.task.kind}", first.day) as run:
        for split, parts in (("valid", valid), ("test", test)):
            combined = combine([predictions for predictions, _ in parts], weights)
            metrics = table_metrics(first.task, first.task.measure(combined, parts[0][1]))
            metrics = {name: value for name, value in metrics.items() if "@" not in name}
            report |= run.log_metrics("train", split, metrics, len(combined))
            for member, (predictions, labels) in zip(members, parts, strict=True):
                report[f"{split}_log_loss of {member.run_id}"] = first.task.measure(predictions, labels)["log_loss"]
    return {"run_id": run.run_id, **report}


def combine(predictions: list[Floats], weights: Floats | None = None) -> Floats:
    """Probabilities (rows, outputs) of the ensemble.

    Args:
        predictions: probabilities (rows, outputs) of each member.
        weights: (members + 1,) from `stacked_weights`: σ(Σ wᵢ logit pᵢ + w₀), w₀ being the last; the mean without.
    """
    if weights is None:
        mean: Floats = np.mean(predictions, axis=0, dtype=np.float64)
        return mean
    logits = np.stack([_logit(part[:, 0]) for part in predictions], axis=1) @ weights[:-1] + weights[-1]
    probabilities: Floats = (1 / (1 + np.exp(-logits)))[:, None]
    return probabilities


def stacked_weights(predictions: list[Floats], labels: Floats) -> Floats:
    """Stacking weights by logistic regression on the members' logits (Wolpert 1992; Ting and Witten 1999).

    Args:
        predictions: probabilities (rows, 1) of each member on rows that none of them was trained on.
        labels: (rows,), or (rows, labels) of which the first is the click.

    Returns:
        (members + 1,) a weight for each member, and the constant.

    Raises:
        UserError: members predict more than one probability, or all labels are equal.
    """
    from sklearn.linear_model import LogisticRegression

    label = labels if labels.ndim == 1 else labels[:, 0]
    if predictions[0].shape[1] != 1 or len(np.unique(label)) < 2:
        raise UserError("stacking is for models of clicks, and needs clicked and other rows; use --how average")
    logits = np.stack([_logit(part[:, 0]) for part in predictions], axis=1)
    # A little regularised, for the members' logits are nearly collinear.
    regression = LogisticRegression(C=10.0, max_iter=1000).fit(logits, label)
    weights: Floats = np.concatenate([regression.coef_[0], regression.intercept_])
    return weights


def _logit(p: Floats) -> Floats:
    """log p / (1 − p), (rows,) in double precision: in single, 1 − p has hardly a digit left near 1."""
    clipped = np.clip(p.astype(np.float64), 1e-7, 1 - 1e-7)
    logits: Floats = np.log(clipped / (1 - clipped))
    return logits


def _require_same_task(members: list[TrainedModel]) -> None:
    """Raise UserError for fewer than two members, or members whose outputs or rows can't be averaged."""
    if len(members) < 2:
        raise UserError("an ensemble needs two runs or more")
    first = members[0]
    for member in members[1:]:
        if (member.task.kind, member.task.labels, member.day) != (first.task.kind, first.task.labels, first.day):
            raise UserError(f"{member.run_id} and {first.run_id} are of different tasks or days")
