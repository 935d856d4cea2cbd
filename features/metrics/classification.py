"""Metrics of predicted probabilities (clicks) and of predicted classes, on arrays of one machine.

What scikit-learn has is called from there, inside the functions: it takes longer to import than a training worker
waits for anything but torch. The distributed forms are in `features/metrics/spark.py`.
"""

import contextlib

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

# Keeps log(p) finite for probabilities of exactly 0 and 1, which float32 sigmoids do give.
CLIP = 1e-7


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, a tie counting half.

    Args:
        labels: (rows,) positive above 0.
        scores: (rows,) or (rows, 1), any order-preserving score.

    Raises:
        ValueError: when there is only one class, for which AUC is undefined, or a score is NaN.
    """
    from sklearn.metrics import roc_auc_score

    y, s = np.asarray(labels) > 0, _checked(scores)
    if y.all() or not y.any():  # scikit-learn warns and returns NaN
        raise ValueError("AUC needs positives and negatives")
    return float(roc_auc_score(y, s))


def gauc(labels: ArrayLike, scores: ArrayLike, groups: ArrayLike) -> float:
    """Grouped AUC: mean AUC of the groups (users) weighted by their rows (Zhu et al. 2017, section 4).

    Groups with one class only have no AUC and are left out. One sort of all rows, since a call of scikit-learn per
    user takes minutes where there are many.

    Args:
        labels: (rows,) positive above 0.
        scores: (rows,) or (rows, 1).
        groups: (rows,) whose row it is.

    Raises:
        ValueError: when no group has both classes, or a score is NaN.
    """
    from scipy.stats import rankdata

    y, s = np.asarray(labels) > 0, _checked(scores)
    # Groups as numbers from 0.
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    order = np.lexsort((s, group))
    # Equal (group, score) pairs share one number that grows by group first, so one ranking of these numbers ranks the
    # rows of every group; a group's own ranks follow by taking off the rows of the groups before it.
    tie_number = np.empty(len(s), np.int64)
    is_new = np.ones(len(s), bool)
    is_new[1:] = (np.diff(s[order]) != 0) | (np.diff(group[order]) != 0)
    tie_number[order] = np.cumsum(is_new)
    ranks = rankdata(tie_number)
    rows = np.bincount(group).astype(np.float64)  # (groups,)
    positives = np.bincount(group, weights=y)
    rows_before = np.cumsum(rows) - rows
    rank_sums = np.bincount(group, weights=np.where(y, ranks - rows_before[group], 0))
    has_both = (positives > 0) & (positives < rows)
    if not has_both.any():
        raise ValueError("GAUC needs a group with positives and negatives")
    p, n = positives[has_both], (rows - positives)[has_both]
    # AUC of a group from the rank sum of its positives (Mann and Whitney 1947).
    return float(np.average((rank_sums[has_both] - p * (p + 1) / 2) / (p * n), weights=rows[has_both]))


def log_loss(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean of −log p of what happened, in nats, with p clipped to [1e-7, 1 − 1e-7].

    The mean of `row_log_losses`, which promotion and calibration need row by row; equal to scikit-learn's.

    Raises:
        ValueError: when a probability is NaN.
    """
    return float(np.mean(row_log_losses(labels, probabilities)))


def row_log_losses(labels: ArrayLike, probabilities: ArrayLike) -> Floats:
    """(rows,) −log p of what happened in each row, in nats.

    Raises:
        ValueError: when a probability is NaN.
    """
    y: Floats = np.asarray(labels, dtype=np.float64)
    p = np.clip(_checked(probabilities), CLIP, 1 - CLIP)
    losses: Floats = -(y * np.log(p) + (1 - y) * np.log(1 - p))
    return losses


def calibration_curve(labels: ArrayLike, probabilities: ArrayLike, bins: int = 10) -> Floats:
    """Mean prediction against share of positives in bins of equally many rows, by prediction (deciles).

    Unlike scikit-learn's, bins are cut by rank, not at quantiles: click predictions have many ties, which would empty
    some bins and overfill others.

    Returns:
        (bins, 3) mean prediction, share of positives, rows.
    """
    y, p = np.asarray(labels, np.float64), _checked(probabilities)
    order = np.argsort(p, kind="stable")
    # Fewer rows than bins leave some empty.
    members = [rows for rows in np.array_split(order, bins) if len(rows)]
    return np.array([(p[rows].mean(), y[rows].mean(), len(rows)) for rows in members])


def calibration_error(labels: ArrayLike, probabilities: ArrayLike, bins: int = 10) -> float:
    """Expected calibration error: mean |prediction − share of positives| over the bins of `calibration_curve`."""
    curve = calibration_curve(labels, probabilities, bins)
    return float(np.average(np.abs(curve[:, 0] - curve[:, 1]), weights=curve[:, 2]))


def click_metrics(labels: ArrayLike, probabilities: ArrayLike, users: ArrayLike) -> dict[str, float]:
    """auc, log_loss, ece and gauc (by user) of click probabilities, all (rows,).

    auc and gauc are left out where there is one class only: a day without clicks has a log loss and no AUC.

    Raises:
        ValueError: when a probability is NaN.
    """
    # In this order: reports print auc first.
    metrics = {"log_loss": log_loss(labels, probabilities), "ece": calibration_error(labels, probabilities)}
    with contextlib.suppress(ValueError):
        metrics = {"auc": auc(labels, probabilities), **metrics, "gauc": gauc(labels, probabilities, users)}
    return metrics


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the precision-recall curve: Σ (R_n − R_{n−1}) P_n over thresholds, ties in one step.

    Raises:
        ValueError: when there is no positive, or a score is NaN.
    """
    from sklearn.metrics import average_precision_score

    y, s = np.asarray(labels) > 0, _checked(scores)
    if not y.any():  # scikit-learn warns and returns 0
        raise ValueError("average precision needs positives")
    return float(average_precision_score(y, s))


def binary_metrics(labels: ArrayLike, scores: ArrayLike, threshold: float = 0.5, beta: float = 1.0) -> dict[str, float]:
    """Metrics of yes or no decisions: accuracy, error, precision, recall, specificity, f1 and e_measure; 0/0 is 0.

    Args:
        labels: (rows,) positive above 0.
        scores: (rows,) or (rows, 1).
        threshold: scores from here on are decided as positive.
        beta: weight of precision in the E-measure, E = 1 − (1 + b²) / (b²/P + 1/R) (van Rijsbergen 1979), which is
            1 − F of weight 1/b in scikit-learn's terms.

    Raises:
        ValueError: when a score is NaN.
    """
    from sklearn.metrics import accuracy_score, fbeta_score, precision_score, recall_score

    y, p = np.asarray(labels) > 0, _checked(scores) >= threshold
    accuracy = float(accuracy_score(y, p))
    return {
        "accuracy": accuracy,
        "error": 1 - accuracy,
        "precision": float(precision_score(y, p, zero_division=0)),
        "recall": float(recall_score(y, p, zero_division=0)),
        "specificity": float(recall_score(~y, ~p, zero_division=0)),
        "f1": float(fbeta_score(y, p, beta=1, zero_division=0)),
        "e_measure": 1 - float(fbeta_score(y, p, beta=1 / beta, zero_division=0)),
    }


def class_f1(labels: ArrayLike, scores: ArrayLike) -> dict[str, float]:
    """macro_f1, the mean over classes, and micro_f1, from summed counts, of the class with the best score.

    Args:
        labels: (rows,) class numbers.
        scores: (rows, classes).
    """
    from sklearn.metrics import f1_score

    y, p = np.asarray(labels).astype(int), np.asarray(scores).argmax(axis=1)  # both (rows,)
    return {f"{kind}_f1": float(f1_score(y, p, average=kind, zero_division=0)) for kind in ("macro", "micro")}


def top_k_error(labels: ArrayLike, scores: ArrayLike, k: int = 5) -> float:
    """Share of rows whose class (rows,) is not among the k best of `scores` (rows, classes)."""
    from sklearn.metrics import top_k_accuracy_score

    s = np.asarray(scores)
    if k >= s.shape[1]:
        return 0.0  # scikit-learn warns about it
    return float(1 - top_k_accuracy_score(np.asarray(labels).astype(int), s, k=k, labels=np.arange(s.shape[1])))


def cost_curve(labels: ArrayLike, scores: ArrayLike, cost_fn: float, cost_fp: float, points: int = 11) -> Floats:
    """Cost-sensitive error over all class balances (Drummond and Holte 2006, section 3).

    With p the share of positives, x = p·C_fn / (p·C_fn + (1 − p)·C_fp) is the probability cost, and the normalised
    expected cost at a threshold is y = FNR·x + FPR·(1 − x); the curve has the best threshold for each x.

    Returns:
        (points, 2) x and y for shares of positives from 0 to 1.

    Raises:
        ValueError: when a score is NaN.
    """
    from sklearn.metrics import roc_curve

    fpr, tpr, _ = roc_curve(np.asarray(labels) > 0, _checked(scores), drop_intermediate=False)
    p = np.linspace(0, 1, points)
    x = p * cost_fn / (p * cost_fn + (1 - p) * cost_fp)
    # Each threshold is a line over x; the curve is the lower envelope.
    costs = np.outer(1 - tpr, x) + np.outer(fpr, 1 - x)  # (thresholds, points)
    return np.stack([x, costs.min(axis=0)], axis=1)


def cost_curve_area(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the cost curve of equal costs: expected cost where nothing is known of the class balance.

    Raises:
        ValueError: when a score is NaN.
    """
    curve = cost_curve(labels, scores, 1.0, 1.0, points=101)
    return float(np.trapezoid(curve[:, 1], curve[:, 0]))


def _checked(scores: ArrayLike) -> Floats:
    """(rows,) float64. Raises ValueError for NaN: a metric computed around it would look like a result."""
    s: Floats = np.asarray(scores, np.float64)
    if np.isnan(s).any():
        raise ValueError(f"{int(np.isnan(s).sum())} of {s.size} predictions are NaN")
    if s.ndim == 2 and s.shape[1] == 1:  # as models return them
        return s[:, 0]
    if s.ndim > 1:
        raise ValueError(f"a metric of yes or no needs one score a row, not {s.shape[1]}")
    return s
