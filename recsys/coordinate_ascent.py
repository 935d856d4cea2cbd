"""Weights of a linear ranking by coordinate ascent on nDCG itself (Metzler and Croft 2007).

A handful of scores per candidate needs a handful of weights. A logistic regression would fit all candidates, most of
which no list ever shows; this looks at the top of the lists alone.
"""

from collections.abc import Callable

import numpy as np
from numba import njit
from numpy.typing import NDArray

FIRST_STEP, LAST_STEP = 0.5, 0.05
MAX_SWEEPS = 20  # each tries every weight once
NUM_RESTARTS = 8
MIN_POSITIVES = 50  # below, nDCG is too noisy to climb

Objective = Callable[[NDArray[np.float64]], float]


def fit_weights(
    scores: NDArray[np.floating], label: NDArray[np.integer], user: NDArray[np.integer], k: int
) -> NDArray[np.float64] | None:
    """Fit the weights whose weighted sum of scores ranks each user's candidates best, by nDCG at k.

    nDCG is a rugged function and a single ascent follows its noise: the weights are the mean of ascents on random
    halves of the users, with a fixed seed.

    Args:
        scores: (rows, scores) in comparable units, such as standardised within users.
        label: (rows,) 1 for an item that the user chose, else 0.
        user: (rows,) codes of the users, from 0.
        k: length of the list.

    Returns:
        Weights (scores,) whose absolute values sum to 1; None with too few positives, or without a negative.
    """
    if label.sum() < MIN_POSITIVES or label.all():
        return None
    rng = np.random.default_rng(0)
    restarts = []
    for _ in range(NUM_RESTARTS):
        rows = (rng.random(int(user.max()) + 1) < 0.5)[user]  # (rows,) whole users, or nDCG would be of parts of lists
        if label[rows].any():
            restarts.append(_ascend(ndcg_objective(scores[rows], label[rows], user[rows], k), scores.shape[1]))
    return np.asarray(np.mean(restarts, axis=0)) if restarts else None


def _ascend(objective: Objective, num_weights: int) -> NDArray[np.float64]:
    """Start from the best single score; change one weight at a time while that helps, by ever smaller steps."""
    weights = max(np.eye(num_weights), key=objective)
    best, step = objective(weights), FIRST_STEP
    for _ in range(MAX_SWEEPS):
        before = best
        for position in range(num_weights):
            for change in (step, -step):  # a weight may become negative: a score may speak against an item
                trial = weights.copy()
                trial[position] += change
                if (value := objective(trial)) > best:
                    best, weights = value, trial
                    break
        if best == before:
            step /= 2
            if step < LAST_STEP:
                break
    # nDCG does not change with the scale of the weights.
    return np.asarray(weights / np.abs(weights).sum())


def ndcg_objective(
    scores: NDArray[np.floating], label: NDArray[np.integer], user: NDArray[np.integer], k: int
) -> Objective:
    """Prepare a function of the weights: mean nDCG at k over the users with a positive among their candidates.

    Takes the arguments of `fit_weights`. Ties are ranked in the order of the rows. A positive's rank is the number of
    candidates with a larger sum, so a call costs one pass and no sort; an ascent makes hundreds of calls.
    """
    has_positive = np.bincount(user, label) > 0
    rows = np.flatnonzero(has_positive[user])
    rows = rows[np.argsort(user[rows], kind="stable")]
    lengths = np.unique(user[rows], return_counts=True)[1]
    bounds = np.concatenate([[0], np.cumsum(lengths)])  # of each user's rows
    columns = np.ascontiguousarray(scores[rows].T, np.float32)  # (scores, rows)
    is_positive = label[rows] > 0
    discount = 1 / np.log2(np.arange(k) + 2)
    positives = np.add.reduceat(is_positive.astype(int), bounds[:-1])  # (users,)
    ideal_dcg = np.cumsum(discount)[np.minimum(positives, k) - 1]  # (users,)
    # In float32, as the scores are: in float64 the product would copy all of them at every call.
    return lambda weights: float(
        _mean_ndcg(weights.astype(np.float32) @ columns, is_positive, bounds, discount, ideal_dcg)
    )


@njit(cache=True, nogil=True)
def _mean_ndcg(sums, is_positive, bounds, discount, ideal_dcg):  # type: ignore[no-untyped-def]
    """Mean over users of the discounts at the ranks of their positives, as a share of the ideal."""
    total = 0.0
    for user in range(len(ideal_dcg)):
        dcg = 0.0
        for positive in range(bounds[user], bounds[user + 1]):
            if is_positive[positive]:
                rank = 0
                # Two loops without a branch, which vectorise.
                for row in range(bounds[user], positive):
                    rank += sums[row] >= sums[positive]
                for row in range(positive + 1, bounds[user + 1]):
                    rank += sums[row] > sums[positive]
                if rank < len(discount):
                    dcg += discount[rank]
        total += dcg / ideal_dcg[user]
    return total / len(ideal_dcg)
