"""Which columns to keep (requirement F6): by a filter, by a wrapper around any score, or by a model's own importance.

Columns are those of x (n, columns); what is returned are their numbers, best first where there is an order.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from features.inspect.report import correlated


def by_variance(x: NDArray[np.floating], over: float = 0.0) -> list[int]:
    """Filter: columns whose variance is over a limit."""
    return [int(place) for place in np.flatnonzero(x.var(axis=0) > over)]


def by_correlation(x: NDArray[np.floating], target: NDArray[np.floating], keep: int) -> list[int]:
    """Filter: the `keep` columns of largest |correlation| with the target."""
    deviation = x.std(axis=0) * target.std()
    covariance = ((x - x.mean(axis=0)) * (target - target.mean())[:, None]).mean(axis=0)
    strength = np.abs(np.divide(covariance, deviation, out=np.zeros(x.shape[1]), where=deviation > 0))
    return [int(place) for place in np.argsort(-strength, kind="stable")[:keep]]


def without_copies(x: NDArray[np.floating], over: float = 0.8) -> list[int]:
    """Filter: of columns that are correlated beyond a limit, the first."""
    gone: set[int] = set()
    for a, b in sorted(correlated(x, over)):
        if a not in gone:
            gone.add(b)
    return [place for place in range(x.shape[1]) if place not in gone]


def forward(columns: int, score: Callable[[Sequence[int]], float], least_gain: float = 0.0) -> list[int]:
    """Wrapper: add the column that helps `score` (larger is better, on validation rows) most, while one does."""
    chosen: list[int] = []
    best = -np.inf
    while len(chosen) < columns:
        rest = [place for place in range(columns) if place not in chosen]
        values = [score([*chosen, place]) for place in rest]
        if max(values) <= best + (least_gain if chosen else 0.0):
            break
        best = max(values)
        chosen.append(rest[int(np.argmax(values))])
    return chosen


def by_importance(importance: Sequence[float], share: float = 0.99) -> list[int]:
    """Embedded: the fewest columns that have `share` of a model's importance (gain of trees, |weights|)."""
    gain = np.maximum(np.asarray(importance, np.float64), 0)
    order = np.argsort(-gain, kind="stable")
    so_far = np.cumsum(gain[order]) / max(gain.sum(), 1e-12)
    return [int(place) for place in order[: int(np.searchsorted(so_far, share - 1e-12)) + 1]]
