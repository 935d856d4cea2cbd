"""Evaluation of a model on a whole split: each rank predicts its share, rank 0 gathers and computes the metrics.

Metrics such as AUC are of all rows together, not means over batches or ranks. A split's predictions therefore pass
through the memory of rank 0: a few bytes a row.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from conf import UserError
from conf.plugins import import_object
from features.metrics import METRICS
from training.inputs.feed import FeedSpec, read_epoch
from training.nn.acceleration import autocast
from training.settings import Precision
from training.tasks.objective import Objective, OwnMetric
from training.workers import Worker

Floats = NDArray[np.float32]


def evaluate(
    objective: Objective, spec: FeedSpec, worker: Worker, *, precision: Precision = "float32"
) -> dict[str, float]:
    """The task's metrics of a split, those of `train.metrics`, and the number of `rows`, on every rank.

    Args:
        spec: this rank's share of the split.
        worker: every rank must call it, for predictions are gathered.
        precision: of the matrix products.

    Raises:
        UserError: a prediction is NaN, or a metric of `train.metrics` is not for such outputs.
    """
    with autocast(precision, worker.device):
        predicted = predict_split(objective, spec, worker.device)
    parts = worker.gather(predicted)
    metrics: dict[str, float] = {}
    if worker.rank == 0:
        # (rows, outputs) and (rows,) or (rows, labels)
        predictions, labels = (np.concatenate([part[i] for part in parts]) for i in range(2))
        # scikit-learn would refuse it with a stack trace, and a mean would hide in which rows it is.
        if np.isnan(predictions).any():
            num_rows = int(np.isnan(predictions).any(axis=1).sum())
            raise UserError(f"the model predicts NaN for {num_rows} rows: lower train.learning_rate")
        metrics = {**objective.task.measure(predictions, labels), **_own_metrics(objective, predictions, labels)}
        metrics["rows"] = float(len(predictions))
    return worker.broadcast(metrics)


def import_metrics(names: Iterable[str]) -> dict[str, OwnMetric]:
    """The functions that `train.metrics` names: entries of METRICS, or `package.module:function` of the user's.

    Called before the first step, for a mistyped name should not cost an epoch. Raises UserError for one that can't be
    imported.
    """
    functions: dict[str, OwnMetric] = {}
    for name in names:
        functions[name] = METRICS.get(name) or import_object(name, "the metric of train.metrics")
    return functions


def _own_metrics(objective: Objective, predictions: Floats, labels: Floats) -> dict[str, float]:
    """The metrics of `train.metrics`; functions of the user's are reported under the name of the function."""
    metrics: dict[str, float] = {}
    results: dict[Any, Any] = {}  # by function: precision and recall, say, come from one pass over all rows
    for name, metric in objective.own_metrics.items():
        short_name = name.rpartition(":")[2]
        try:
            if metric not in results:
                results[metric] = metric(labels, predictions)
            result = results[metric]
            metrics[short_name] = float(result[short_name] if isinstance(result, Mapping) else result)
        except ValueError as error:
            raise UserError(f"train.metrics {name}: {error}") from error
    return metrics


@torch.no_grad()
def predict_split(objective: Objective, spec: FeedSpec, device: torch.device) -> tuple[Floats, Floats]:
    """Predictions and labels of this rank's share of a split, in the order of the files.

    Returns:
        (rows, outputs) predictions, and (rows,) or (rows, labels) labels; padding rows are left out.
    """
    was_training = objective.training
    objective.eval()
    predictions: list[Any] = []
    labels: list[Any] = []
    for batch in read_epoch(replace(spec, shuffle_rows=0), 0):
        is_real = batch.weight > 0
        outputs = objective.predict(batch.to(device)).float().cpu()  # NumPy has no bfloat16
        predictions.append(outputs[is_real])
        labels.append(batch.label[is_real])
    objective.train(was_training)
    if not predictions:  # the split has no rows
        predictions, labels = [torch.zeros((0, 1))], [torch.zeros(0)]
    return torch.cat(predictions).numpy(), torch.cat(labels).numpy()
