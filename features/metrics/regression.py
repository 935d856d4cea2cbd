"""Metrics of predicted numbers, such as ratings."""

import numpy as np
from numpy.typing import ArrayLike


def rmse(labels: ArrayLike, predictions: ArrayLike) -> float:
    """Root of the mean squared error, in the unit of the labels; both are (rows,) or (rows, 1)."""
    from sklearn.metrics import root_mean_squared_error

    return float(root_mean_squared_error(np.ravel(labels), np.ravel(predictions)))


def mae(labels: ArrayLike, predictions: ArrayLike) -> float:
    """Mean absolute error, in the unit of the labels; both are (rows,) or (rows, 1)."""
    from sklearn.metrics import mean_absolute_error

    return float(mean_absolute_error(np.ravel(labels), np.ravel(predictions)))
