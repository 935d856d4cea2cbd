"""Metrics: of classes and probabilities, of ranked lists, of numbers; on one machine and on Spark."""

from collections.abc import Callable, Mapping
from typing import Any

from features.metrics.classification import (
    auc,
    average_precision,
    binary_metrics,
    calibration_error,
    class_f1,
    cost_curve_area,
    log_loss,
    top_k_error,
)
from features.metrics.regression import mae, rmse

# What `train.metrics` names: (labels (rows,), predictions (rows, outputs)) -> one number, or several by name.
# A function of several is listed under the name of each, and called once for all of them. A new metric is added here.
METRICS: dict[str, Callable[[Any, Any], float | Mapping[str, float]]] = {
    "auc": auc,
    "log_loss": log_loss,
    "average_precision": average_precision,
    "ece": calibration_error,
    "cost_curve_area": cost_curve_area,
    **dict.fromkeys(("accuracy", "error", "precision", "recall", "specificity", "f1", "e_measure"), binary_metrics),
    **dict.fromkeys(("macro_f1", "micro_f1"), class_f1),
    "top_5_error": top_k_error,
    "rmse": rmse,
    "mae": mae,
}
