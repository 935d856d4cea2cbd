"""A channel's answer for a batch of users: its best items of each as lists, and how its scores are distributed."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

ScorePairs = Callable[[NDArray[np.int32]], NDArray[np.float32]]


@dataclass(frozen=True)
class TopItems:
    """The best items of each user of a batch, without what it excludes, best first, ties by item number."""

    items: NDArray[np.int32]  # (users, k) item numbers, −1 where there are fewer
    scores: NDArray[np.float32]  # (users, k) larger is better, −inf where the item is −1
    mean: NDArray[np.float64]  # (users,) of the scores of all items that are not excluded and that the channel scores
    deviation: NDArray[np.float64]  # (users,) of the same scores
    is_scored: NDArray[np.bool_]  # (users,) whether there is any
    score_pairs: ScorePairs  # items (users, m) of a user, −1: none -> scores (users, m), −inf where there is none

    def standardize(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Standardise scores (users, m) within each user, since channels score in different units.

        (x − mean) / deviation; −1 for −inf, so that what a channel does not propose counts as poor without ruling the
        sum; 0 for a user without any score.
        """
        centred = scores.astype(np.float64) - self.mean[:, None]
        scaled = np.where(np.isfinite(scores), centred / np.maximum(self.deviation, 1e-9)[:, None], -1.0)
        return np.asarray(np.where(self.is_scored[:, None], scaled, 0.0), np.float32)


def empty_lists(num_users: int, k: int) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float64]]:
    """Arrays for a kernel to fill: items (users, k), scores (users, k) and moments (users, 3)."""
    items, scores = np.full((num_users, k), -1, np.int32), np.full((num_users, k), -np.inf, np.float32)
    return items, scores, np.zeros((num_users, 3))


def top_items(
    items: NDArray[np.int32],
    scores: NDArray[np.float32],
    moments: NDArray[np.float64],
    is_cold: NDArray[np.bool_] | None,
    score_pairs: ScorePairs,
) -> TopItems:
    """Finish what kernels filled in.

    Args:
        items: (users, k).
        scores: (users, k).
        moments: (users, 3) number, sum and sum of squares of the scores.
        is_cold: (users,) users whom the channel has nothing to say about; None: it serves them, too.
        score_pairs: of `TopItems`, for users who are not cold.
    """
    count = np.maximum(moments[:, 0], 1)
    mean = moments[:, 1] / count
    variance = np.maximum(moments[:, 2] / count - mean**2, 0)
    # What rounding leaves of a constant score is no deviation.
    deviation = np.where(variance > 1e-12 * mean**2, np.sqrt(variance), 0.0)
    is_scored = moments[:, 0] > 0
    if is_cold is not None and is_cold.any():
        items[is_cold], scores[is_cold], is_scored[is_cold] = -1, -np.inf, False
        score_pairs = _masked(score_pairs, is_cold)
    return TopItems(items, scores, mean, deviation, is_scored, score_pairs)


def _masked(score_pairs: ScorePairs, is_cold: NDArray[np.bool_]) -> ScorePairs:
    def masked(items: NDArray[np.int32]) -> NDArray[np.float32]:
        scores = score_pairs(items)
        scores[is_cold] = -np.inf
        return scores

    return masked


def num_threads() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def in_threads(kernel: Callable[..., object], num_rows: int, *arguments: Any) -> None:
    """Call `kernel(*arguments, start, stop)` for stretches of the rows, in as many threads as there are cores."""
    threads = num_threads()
    # Several stretches a thread: rows differ in length.
    bounds = np.linspace(0, num_rows, min(num_rows, 8 * threads) + 1).astype(int)
    with ThreadPoolExecutor(threads) as pool:
        for result in [pool.submit(kernel, *arguments, start, stop) for start, stop in pairwise(bounds)]:
            result.result()
