"""Weights of a linear ranking by coordinate ascent on nDCG itself (Metzler and Croft 2007).

A handful of scores per candidate needs a handful of weights. A logistic regression would fit all candidates, most of
which no list ever shows; this looks at the top of the lists alone.
"""

from collections.abc import Callable

import numpy as np
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

    Takes the arguments of `fit_weights`. The candidates are laid out once as a padded tensor, so that each call costs
    a product and a partial sort; an ascent makes hundreds of calls.
    """
    has_positive = np.bincount(user, label) > 0
    rows = np.flatnonzero(has_positive[user])
    rows = rows[np.argsort(user[rows], kind="stable")]
    _, code, lengths = np.unique(user[rows], return_inverse=True, return_counts=True)
    position = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)  # within the user
    shape = (len(lengths), int(lengths.max()))  # (users, candidates)
    hits = np.zeros(shape, np.float32)
    hits[code, position] = label[rows]
    padded = np.zeros((scores.shape[1], *shape), np.float32)  # (scores, users, candidates)
    padded[:, code, position] = scores[rows].T
    is_padding = np.ones(shape, bool)
    is_padding[code, position] = False
    k = min(k, shape[1])
    discount = 1 / np.log2(np.arange(k) + 2)
    ideal_dcg = np.cumsum(discount)[np.minimum(hits.sum(axis=1).astype(int), k) - 1]  # (users,)

    def objective(weights: NDArray[np.float64]) -> float:
        order = np.tensordot(-weights.astype(np.float32), padded, axes=1)  # (users, candidates), best is least
        order[is_padding] = np.inf
        top = np.argpartition(order, k - 1, axis=1)[:, :k]  # (users, k), not yet in order
        top = np.take_along_axis(top, np.argsort(np.take_along_axis(order, top, 1), axis=1, kind="stable"), 1)
        return float(((np.take_along_axis(hits, top, 1) @ discount) / ideal_dcg).mean())

    return objective
