"""Weights of a linear ranking by coordinate ascent on nDCG itself (Metzler and Croft 2007).

A handful of scores a candidate needs a handful of weights. A logistic regression would fit all candidates, most of
which no list ever shows; this looks at the first places alone.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

FIRST_STEP, LAST_STEP = 0.5, 0.05
SWEEPS = 20  # at most; each looks at every weight once
CLIMBS = 8
LEAST = 50  # positives below which nothing can be learned


def learn(
    scores: NDArray[np.floating], label: NDArray[np.integer], user: NDArray[np.integer], k: int
) -> NDArray[np.float64] | None:
    """Weights (steps,), |weights| summing to 1, that order each user's candidates best; None with too few positives.

    `scores` (rows, steps) are in comparable units, `label` (rows,) 0 or 1, `user` (rows,) codes from 0. nDCG is a
    rugged function and a single climb follows its noise: weights are the mean of climbs on random halves of the users,
    drawn by a fixed seed.
    """
    if label.sum() < LEAST or label.all():
        return None
    rng = np.random.default_rng(0)
    climbs = []
    for _ in range(CLIMBS):
        rows = (rng.random(int(user.max()) + 1) < 0.5)[user]
        if label[rows].any():
            climbs.append(_climb(_ndcg(scores[rows], label[rows], user[rows], k), scores.shape[1]))
    return np.asarray(np.mean(climbs, axis=0)) if climbs else None


def _climb(measure: Callable[[NDArray[np.float64]], float], steps: int) -> NDArray[np.float64]:
    """From the best single step, change one weight at a time while that helps, by ever smaller steps."""
    weights = max(np.eye(steps), key=measure)
    best, step = measure(weights), FIRST_STEP
    for _ in range(SWEEPS):
        before = best
        for place in range(steps):
            for change in (step, -step):
                tried = weights.copy()
                tried[place] += change
                if (value := measure(tried)) > best:
                    best, weights = value, tried
                    break
        if best == before:
            step /= 2
            if step < LAST_STEP:
                break
    return np.asarray(weights / np.abs(weights).sum())


def _ndcg(
    scores: NDArray[np.floating], label: NDArray[np.integer], user: NDArray[np.integer], k: int
) -> Callable[[NDArray[np.float64]], float]:
    """A function of the weights: mean nDCG at k over users with a positive among their candidates."""
    has = np.bincount(user, label) > 0
    rows = np.flatnonzero(has[user])
    rows = rows[np.argsort(user[rows], kind="stable")]
    _, code, lengths = np.unique(user[rows], return_inverse=True, return_counts=True)
    place = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    shape = (len(lengths), int(lengths.max()))
    hits = np.zeros(shape, np.float32)
    hits[code, place] = label[rows]
    padded = np.zeros((scores.shape[1], *shape), np.float32)
    padded[:, code, place] = scores[rows].T
    absent = np.ones(shape, bool)
    absent[code, place] = False
    k = min(k, shape[1])
    discount = 1 / np.log2(np.arange(k) + 2)
    ideal = np.cumsum(discount)[np.minimum(hits.sum(axis=1).astype(int), k) - 1]

    def measure(weights: NDArray[np.float64]) -> float:
        order = np.tensordot(-weights.astype(np.float32), padded, axes=1)
        order[absent] = np.inf
        top = np.argpartition(order, k - 1, axis=1)[:, :k]
        top = np.take_along_axis(top, np.argsort(np.take_along_axis(order, top, 1), axis=1, kind="stable"), 1)
        return float(((np.take_along_axis(hits, top, 1) @ discount) / ideal).mean())

    return measure
