"""Metrics: of classes and probabilities, of ranked lists, of numbers; on one machine and on Spark."""

from collections.abc import Callable
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

# What `train.metrics` names: (labels (rows,), predictions (rows, outputs)) -> one number. A new metric is added here.
METRICS: dict[str, Callable[[Any, Any], float]] = {
    "auc": auc,
    "log_loss": log_loss,
    "average_precision": average_precision,
    "ece": calibration_error,
    "cost_curve_area": cost_curve_area,
    "accuracy": lambda y, p: binary_metrics(y, p)["accuracy"],
    "error": lambda y, p: binary_metrics(y, p)["error"],
    "precision": lambda y, p: binary_metrics(y, p)["precision"],
    "recall": lambda y, p: binary_metrics(y, p)["recall"],
    "specificity": lambda y, p: binary_metrics(y, p)["specificity"],
    "f1": lambda y, p: binary_metrics(y, p)["f1"],
    "e_measure": lambda y, p: binary_metrics(y, p)["e_measure"],
    "macro_f1": lambda y, p: class_f1(y, p)["macro_f1"],
    "micro_f1": lambda y, p: class_f1(y, p)["micro_f1"],
    "top_5_error": top_k_error,
    "rmse": rmse,
    "mae": mae,
}
