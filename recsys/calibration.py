"""Calibration: scores become probabilities that agree with the click rates of validation rows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from conf.runs import Run
from features.metrics.classification import calibration_curve, click_metrics
from recsys.dataset import Rows

MIN_CLASS_COUNT = 20  # rows of each class, below which a curve would follow noise


@dataclass(frozen=True)
class Calibrator:
    """A monotone curve from logits of scores to logits of probabilities: straight lines between its points.

    Beyond its ends a line of two points (Platt) is extended, and curves of more points (isotonic) are flat.
    """

    x: NDArray[np.float64]  # (points,) logits of scores, ascending
    y: NDArray[np.float64]  # (points,) logits of probabilities

    def __call__(self, probabilities: ArrayLike) -> NDArray[np.float64]:
        """Calibrate probabilities (n,); their order stays."""
        logits = logit(probabilities)
        if len(self.x) == 2:
            slope = (self.y[1] - self.y[0]) / (self.x[1] - self.x[0])
            return sigmoid(self.y[0] + slope * (logits - self.x[0]))
        return sigmoid(np.interp(logits, self.x, self.y))


IDENTITY = Calibrator(np.array([0.0, 1.0]), np.array([0.0, 1.0]))


def fit(kind: str, labels: ArrayLike, probabilities: ArrayLike) -> Calibrator:
    """Fit a calibrator on rows that the model was not trained on.

    Args:
        kind: none, platt (Platt 1999: a logistic regression on the logit) or isotonic (Zadrozny and Elkan 2002).
        labels: (n,) 0 or 1.
        probabilities: (n,) predictions of the model.

    Returns:
        IDENTITY when there are too few rows of a class, or the scores rank the rows the wrong way round.
    """
    y, logits = np.asarray(labels, np.float64), logit(probabilities)
    if kind == "none" or min(y.sum(), len(y) - y.sum()) < MIN_CLASS_COUNT:
        return IDENTITY
    if kind == "platt":
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(C=1e6).fit(logits[:, None], y)  # a large C: practically no penalty
        line = model.intercept_[0] + model.coef_[0, 0] * np.array([0.0, 1.0])
        # A falling line would reverse the order: such scores carry no information, and stay as they are.
        return Calibrator(np.array([0.0, 1.0]), line) if model.coef_[0, 0] > 0 else IDENTITY
    from sklearn.isotonic import IsotonicRegression

    model = IsotonicRegression(y_min=1e-6, y_max=1 - 1e-6, out_of_bounds="clip").fit(logits, y)
    if len(model.X_thresholds_) < 3:  # a constant; and two points would be read as Platt's line
        return IDENTITY
    return Calibrator(np.asarray(model.X_thresholds_), logit(model.y_thresholds_))


def log_click_metrics(run: Run, stage: str, split: str, rows: Rows, probabilities: ArrayLike) -> dict[str, float]:
    """Log the quality of click probabilities into a run folder.

    AUC, GAUC, log loss and calibration error, and for a calibration plot the mean prediction and the click rate of ten
    bins by prediction (`k` is the bin, from 1).

    Args:
        run: the run that predicted.
        stage: coarse or fine.
        split: the rows' split, valid or test.
        rows: with the key `user_id`.
        probabilities: (rows,) predictions.

    Returns:
        `<split>_<metric>` -> value, without the bins.
    """
    if len(rows.label):
        for k, (predicted, clicked, count) in enumerate(calibration_curve(rows.label, probabilities), 1):
            run.log_metric(stage, split, "calibration_predicted", predicted, int(count), k=k)
            run.log_metric(stage, split, "calibration_clicked", clicked, int(count), k=k)
    metrics = click_metrics(rows.label, probabilities, rows.keys["user_id"])
    return run.log_metrics(stage, split, metrics, len(rows.label))


def logit(probabilities: ArrayLike) -> NDArray[np.float64]:
    """log(p / (1 − p)) of probabilities, clipped to [1e-7, 1 − 1e-7]."""
    p = np.clip(np.asarray(probabilities, np.float64), 1e-7, 1 - 1e-7)
    return np.asarray(np.log(p / (1 - p)))


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / (1 + exp(−x)): the inverse of `logit`."""
    return np.asarray(1 / (1 + np.exp(-logits)))
