"""Numbers that say how good predictions are: of clicks (probabilities), of classes, and of values.

The one home of these for every model; lists are measured in `recsys/evaluation/lists.py`, large sets on Spark in
`features/inspect/measures.py`. Vectors with known answers are in the tests.
"""

import contextlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, a tie counting half.

    Raises ValueError when there is only one class, for then it has no meaning.
    """
    y, s = np.asarray(labels) > 0, _without_nan(scores)
    positives, negatives = int(y.sum()), int((~y).sum())
    if not positives or not negatives:
        raise ValueError("AUC needs positives and negatives")
    ranks = float(_ranks(s)[y].sum())
    return (ranks - positives * (positives + 1) / 2) / (positives * negatives)


def gauc(labels: ArrayLike, scores: ArrayLike, groups: ArrayLike) -> float:
    """Mean AUC of groups (users) weighted by their rows, over groups with both classes (Zhu et al. 2017).

    Raises ValueError when there is no such group.
    """
    y, s = np.asarray(labels) > 0, _without_nan(scores)
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    order = np.lexsort((s, group))
    # Ranks within a group, the mean over ties, from ranks over all rows sorted by group first.
    dense = np.empty(len(s), np.int64)
    changed = np.ones(len(s), bool)
    changed[1:] = (np.diff(s[order]) != 0) | (np.diff(group[order]) != 0)
    dense[order] = np.cumsum(changed)
    ranks = _ranks(dense)
    rows = np.bincount(group).astype(np.float64)
    positives = np.bincount(group, weights=y)
    before = np.cumsum(rows) - rows
    summed = np.bincount(group, weights=np.where(y, ranks - before[group], 0))
    both = (positives > 0) & (positives < rows)
    if not both.any():
        raise ValueError("GAUC needs a group with positives and negatives")
    p, n, total = positives[both], rows[both] - positives[both], rows[both]
    return float(np.average((summed[both] - p * (p + 1) / 2) / (p * n), weights=total))


def log_loss(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean of −log p of what happened, with p kept off 0 and 1 by 1e-7."""
    return float(np.mean(row_losses(labels, probabilities)))


def row_losses(labels: ArrayLike, probabilities: ArrayLike) -> Floats:
    """−log p of what happened, of each row."""
    y: Floats = np.asarray(labels, dtype=np.float64)
    p = np.clip(_without_nan(probabilities), 1e-7, 1 - 1e-7)
    losses: Floats = -(y * np.log(p) + (1 - y) * np.log(1 - p))
    return losses


def calibration_curve(labels: ArrayLike, probabilities: ArrayLike, bins: int = 10) -> Floats:
    """(bins, 3) mean prediction, share of positives, rows, in bins of as many rows each, by prediction (deciles)."""
    y, p = np.asarray(labels, np.float64), np.asarray(probabilities, np.float64)
    order = np.argsort(p, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return np.array([(p[part].mean(), y[part].mean(), len(part)) for part in parts])


def calibration_error(labels: ArrayLike, probabilities: ArrayLike, bins: int = 10) -> float:
    """Expected calibration error: mean |prediction − share of positives| over the bins of `calibration_curve`."""
    curve = calibration_curve(labels, probabilities, bins)
    return float(np.average(np.abs(curve[:, 0] - curve[:, 1]), weights=curve[:, 2]))


def click_metrics(labels: ArrayLike, probabilities: ArrayLike, users: ArrayLike) -> dict[str, float]:
    """AUC, GAUC by user, log loss and calibration error; AUCs are left out where there is one class only."""
    told = {"log_loss": log_loss(labels, probabilities), "ece": calibration_error(labels, probabilities)}
    with contextlib.suppress(ValueError):  # a day without clicks has a log loss and no AUC
        told = {"auc": auc(labels, probabilities), **told, "gauc": gauc(labels, probabilities, users)}
    return told


# --- classes ---


def confusion(labels: ArrayLike, predicted: ArrayLike) -> dict[str, int]:
    """tp, fp, tn, fn of two classes."""
    y, p = np.asarray(labels) > 0, np.asarray(predicted) > 0
    return {"tp": int((y & p).sum()), "fp": int((~y & p).sum()), "tn": int((~y & ~p).sum()), "fn": int((y & ~p).sum())}


def rates(counts: Mapping[str, int], beta: float = 1.0) -> dict[str, float]:
    """precision, recall, specificity, accuracy, error, f1 and e (E-measure with `beta`) from a confusion; 0/0 is 0.

    E = 1 − (1 + b²) / (b²/P + 1/R): a larger b weighs precision more; 1 when either is 0.
    """
    tp, fp, tn, fn = (counts[name] for name in ("tp", "fp", "tn", "fn"))
    precision, recall = _ratio(tp, tp + fp), _ratio(tp, tp + fn)
    accuracy = _ratio(tp + tn, tp + fp + tn + fn)
    e = 1.0
    if precision and recall:
        e = 1 - (1 + beta**2) / (beta**2 / precision + 1 / recall)
    return {
        "precision": precision,
        "recall": recall,
        "specificity": _ratio(tn, tn + fp),
        "accuracy": accuracy,
        "error": 1 - accuracy,
        "f1": _ratio(2 * precision * recall, precision + recall),
        "e": e,
    }


def f1_of_classes(labels: ArrayLike, predicted: ArrayLike) -> dict[str, float]:
    """macro_f1, the mean over classes, and micro_f1, from summed counts."""
    y, p = np.asarray(labels), np.asarray(predicted)
    found = [confusion(y == kind, p == kind) for kind in np.union1d(y, p)]
    summed = {name: sum(counts[name] for counts in found) for name in ("tp", "fp", "tn", "fn")}
    return {
        "macro_f1": float(np.mean([rates(counts)["f1"] for counts in found])),
        "micro_f1": rates(summed)["f1"],
    }


def roc_points(labels: ArrayLike, scores: ArrayLike) -> list[tuple[float, float, float]]:
    """(threshold, TPR, FPR) at each score, lowest threshold first; positive means score >= threshold."""
    y, s = np.asarray(labels) > 0, _without_nan(scores)
    return [(float(t), float((s[y] >= t).mean()), float((s[~y] >= t).mean())) for t in np.unique(s)]


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the P–R curve: Σ (R_n − R_{n−1}) P_n over thresholds, ties in one step.

    Raises ValueError without positives.
    """
    y, s = np.asarray(labels) > 0, _without_nan(scores)
    if not y.any():
        raise ValueError("average precision needs positives")
    order = np.argsort(-s, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(s[order]) != 0, True))
    tp = np.cumsum(y[order])[ends]
    precision, recall = tp / (ends + 1), tp / y.sum()
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def top_k_error(labels: ArrayLike, scores: ArrayLike, k: int = 5) -> float:
    """Share of rows whose class (n,) is not among the k best `scores` (n, classes)."""
    best = np.argsort(-np.asarray(scores), axis=1, kind="stable")[:, :k]
    return float(1 - (best == np.asarray(labels)[:, None]).any(axis=1).mean())


def cost_curve(labels: ArrayLike, scores: ArrayLike, cost_fn: float, cost_fp: float, points: int = 11) -> Floats:
    """(points, 2) of a cost-sensitive error: probability cost, and the least normalised expected cost at any threshold.

    Drummond and Holte 2006: with p the share of positives, x = p·C_fn / (p·C_fn + (1−p)·C_fp), y = FNR·x + FPR·(1−x).
    """
    found = np.array([(1 - tpr, fpr) for _, tpr, fpr in roc_points(labels, scores)] + [(1.0, 0.0)])
    p = np.linspace(0, 1, points)
    x = p * cost_fn / (p * cost_fn + (1 - p) * cost_fp)
    return np.stack([x, (found[:, :1] * x + found[:, 1:] * (1 - x)).min(axis=0)], axis=1)


# --- values ---


def rmse(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Root of the mean squared error."""
    return float(np.sqrt(np.mean((np.asarray(truth, np.float64) - np.asarray(predicted, np.float64)) ** 2)))


def mae(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Mean absolute error."""
    return float(np.mean(np.abs(np.asarray(truth, np.float64) - np.asarray(predicted, np.float64))))


# --- how sure ---


def bootstrap_means(sums: ArrayLike, weights: ArrayLike, *, draws: int = 1000, seed: int = 7) -> Floats:
    """(draws,) values of Σ sums / Σ weights over clusters (users) drawn with replacement; both are (clusters,).

    Rows of one user are alike, so users are drawn, not rows (Poisson bootstrap: each user counts Poisson(1) times).
    """
    s, w = np.asarray(sums, np.float64), np.asarray(weights, np.float64)
    rng = np.random.default_rng(seed)
    block = max(1, 5_000_000 // max(len(s), 1))
    found = []
    for start in range(0, draws, block):
        times = rng.poisson(1.0, (min(block, draws - start), len(s)))
        found.append((times @ s) / np.maximum(times @ w, 1e-12))
    return np.concatenate(found)


def interval(values: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of bootstrap values."""
    low, high = np.quantile(np.asarray(values), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _ranks(values: ArrayLike) -> Floats:
    """From 1, ties at their mean."""
    # Here, for it takes longer to import than a worker has to wait for anything else but torch.
    from scipy.stats import rankdata

    found: Floats = rankdata(values)
    return found


def _without_nan(scores: ArrayLike) -> Floats:
    """As float64. Raises ValueError when one is NaN: a number made of it would look like a result."""
    found: Floats = np.asarray(scores, np.float64)
    if np.isnan(found).any():
        raise ValueError(f"{int(np.isnan(found).sum())} of {found.size} predictions are NaN")
    return found
