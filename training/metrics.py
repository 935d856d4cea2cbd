"""Numbers that say how good predicted probabilities are. The one home of AUC and log loss for every model."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, a tie counting half.

    Raises ValueError when there is only one class, for then it has no meaning.
    """
    y, s = np.asarray(labels) > 0, np.asarray(scores)
    positives, negatives = int(y.sum()), int((~y).sum())
    if not positives or not negatives:
        raise ValueError("AUC needs positives and negatives")
    ranks = float(rankdata(s)[y].sum())
    return (ranks - positives * (positives + 1) / 2) / (positives * negatives)


def log_loss(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean of −log p of what happened, with p kept off 0 and 1 by 1e-7."""
    y: NDArray[np.float64] = np.asarray(labels, dtype=np.float64)
    p = np.clip(np.asarray(probabilities, dtype=np.float64), 1e-7, 1 - 1e-7)
    return float(-np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)))
