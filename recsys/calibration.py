"""Calibration: scores -> probabilities that agree with click rates, from validation rows (Platt 1999; isotonic)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from conf.runs import Run
from features.metrics.classification import calibration_curve, click_metrics
from recsys.dataset import Rows

LEAST = 20  # of each class; below, there is nothing to learn from


@dataclass(frozen=True)
class Calibrator:
    """A monotone curve through (x, y), logits of scores and of probabilities; straight lines between.

    Outside, a line of two points goes on, and other curves are flat.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]

    def __call__(self, probabilities: ArrayLike) -> NDArray[np.float64]:
        """Calibrated probabilities, in the order that they came in."""
        logits = _logit(probabilities)
        if len(self.x) == 2:  # Platt: a line
            slope = (self.y[1] - self.y[0]) / (self.x[1] - self.x[0])
            return _sigmoid(self.y[0] + slope * (logits - self.x[0]))
        return _sigmoid(np.interp(logits, self.x, self.y))


IDENTITY = Calibrator(np.array([0.0, 1.0]), np.array([0.0, 1.0]))


def log_clicks(run: Run, stage: str, split: str, rows: Rows, probabilities: ArrayLike) -> dict[str, float]:
    """Note how well click probabilities of rows are: AUC, GAUC, log loss and calibration error, which are returned, and
    mean prediction and click rate of ten bins by prediction; k is the bin, from 1.
    """
    if len(rows.label):
        for k, (predicted, clicked, count) in enumerate(calibration_curve(rows.label, probabilities), 1):
            run.log_metric(stage, split, "calibration_predicted", predicted, int(count), k=k)
            run.log_metric(stage, split, "calibration_clicked", clicked, int(count), k=k)
    numbers = click_metrics(rows.label, probabilities, rows.keys["user_id"])
    return run.log_metrics(stage, split, numbers, len(rows.label))


def fit(kind: str, labels: ArrayLike, probabilities: ArrayLike) -> Calibrator:
    """`kind` is none, platt or isotonic; without enough of both classes nothing is changed."""
    y, logits = np.asarray(labels, np.float64), _logit(probabilities)
    if kind == "none" or min(y.sum(), len(y) - y.sum()) < LEAST:
        return IDENTITY
    if kind == "platt":
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(C=1e6).fit(logits[:, None], y)
        line = model.intercept_[0] + model.coef_[0, 0] * np.array([0.0, 1.0])
        # A falling line would turn the order around: such scores say nothing, and are left as they are.
        return Calibrator(np.array([0.0, 1.0]), line) if model.coef_[0, 0] > 0 else IDENTITY
    from sklearn.isotonic import IsotonicRegression

    model = IsotonicRegression(y_min=1e-6, y_max=1 - 1e-6, out_of_bounds="clip").fit(logits, y)
    if len(model.X_thresholds_) < 3:
        return IDENTITY
    return Calibrator(np.asarray(model.X_thresholds_), _logit(model.y_thresholds_))


def _logit(probabilities: ArrayLike) -> NDArray[np.float64]:
    p = np.clip(np.asarray(probabilities, np.float64), 1e-7, 1 - 1e-7)
    return np.asarray(np.log(p / (1 - p)))


def _sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-logits)))
