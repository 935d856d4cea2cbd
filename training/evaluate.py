"""Predictions of a model for a whole split, each rank its share, gathered and measured on rank 0."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from conf import UserError
from conf.plugins import import_object
from features.metrics import METRICS
from training.inputs.feed import FeedSpec, read_epoch
from training.tasks.objective import Objective
from training.workers import Worker

Floats = NDArray[np.float32]


def evaluate(objective: Objective, spec: FeedSpec, worker: Worker) -> dict[str, float]:
    """The task's numbers of the split, and its `rows`, on every rank."""
    parts = worker.gather(predict_split(objective, spec, worker.device))
    metrics: dict[str, float] = {}
    if worker.rank == 0:
        predictions, labels = (np.concatenate([part[i] for part in parts]) for i in range(2))
        if np.isnan(predictions).any():
            num_rows = int(np.isnan(predictions).any(axis=1).sum())
            raise UserError(f"the model predicts NaN for {num_rows} rows: lower train.learning_rate")
        metrics = {**objective.task.measure(predictions, labels), **_own_metrics(objective, predictions, labels)}
        metrics["rows"] = float(len(predictions))
    return worker.share(metrics)


def _own_metrics(objective: Objective, predictions: Floats, labels: Floats) -> dict[str, float]:
    """`train.metrics`: names of METRICS, or the user's own functions, each called by the name of its function."""
    metrics = {}
    for name in objective.own_metrics:
        metric = METRICS.get(name) or import_object(name, "the metric of train.metrics")
        try:
            metrics[name.rpartition(":")[2]] = float(metric(labels, predictions))
        except ValueError as error:
            raise UserError(f"train.metrics {name}: {error}") from error
    return metrics


@torch.no_grad()
def predict_split(objective: Objective, spec: FeedSpec, device: torch.device) -> tuple[Floats, Floats]:
    """(rows, outputs) predictions, and labels of this rank's share of a split, in the order of the files."""
    was_training = objective.training
    objective.eval()
    predictions: list[Any] = []
    labels: list[Any] = []
    for batch in read_epoch(replace(spec, shuffle_rows=0), 0):
        is_real = batch.weight > 0
        outputs = objective.predict(batch.to(device)).float().cpu()
        predictions.append(outputs[is_real])
        labels.append(batch.label[is_real])
    objective.train(was_training)
    if not predictions:
        predictions, labels = [torch.zeros((0, 1))], [torch.zeros(0)]
    return torch.cat(predictions).numpy(), torch.cat(labels).numpy()
