"""Re-ranking of the served lists: diversity by category (MMR, Carbonell and Goldstein 1998), fresh items."""

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray

from recsys.settings import RecommendSettings


def rerank(candidates: pd.DataFrame, settings: RecommendSettings) -> pd.DataFrame:
    """Select and order the first `recommend.length` items of each user's list.

    Args:
        candidates: user_id, item_id, rank (from 1), order (the score behind it), category and is_fresh.
        settings: the section `recommend`.

    Returns:
        The selected candidates by user and new `rank`.
    """
    ordered = candidates.sort_values(["user_id", "rank"], ignore_index=True)
    if ordered.empty:
        return ordered
    users = ordered["user_id"].to_numpy()
    bounds = np.flatnonzero(np.concatenate([[True], users[1:] != users[:-1], [True]]))
    codes = ordered["category"].factorize()[0]  # −1 for no category
    order, fresh = ordered["order"].to_numpy(np.float64), ordered["is_fresh"].to_numpy(bool)
    selected, ranks = _select_lists(
        order, codes, fresh, bounds, settings.diversity, settings.fresh_share, settings.length
    )
    return ordered.loc[selected].assign(rank=ranks).reset_index(drop=True)


def select_diverse(
    order: NDArray[np.float64], category: NDArray[np.int64], is_fresh: NDArray[np.bool_], settings: RecommendSettings
) -> NDArray[np.int64]:
    """Select one user's list greedily by maximal marginal relevance.

    Each rank gets the item that maximises (1 − d) · relevance − d · share of the list so far with the same category,
    where d is `recommend.diversity` and relevance goes from 1 for the user's best item to 0. Once the ranks that are
    left are just enough for `recommend.fresh_share`, only fresh items are taken.

    Args:
        order: (n,) scores, best first.
        category: (n,) codes, −1 for no category, which is like no other.
        is_fresh: (n,).
        settings: the section `recommend`.

    Returns:
        Positions among the candidates, in the order of the list.
    """
    bounds = np.array([0, len(order)])
    selected, _ = _select_lists(
        order, category, is_fresh, bounds, settings.diversity, settings.fresh_share, settings.length
    )
    return np.asarray(selected)


@njit(cache=True, nogil=True)
def _select_lists(  # type: ignore[no-untyped-def]
    order, category, is_fresh, bounds, diversity, fresh_share, max_length
):
    """Positions and ranks (from 1) of all users' lists; user u has the candidates bounds[u] to bounds[u + 1]."""
    counts = np.zeros(category.max() + 2 if len(category) else 1, np.int64)  # by category; the last for code −1
    sizes = np.minimum(np.diff(bounds), max_length)
    selected, ranks = np.empty(sizes.sum(), np.int64), np.empty(sizes.sum(), np.int64)
    place = 0
    for user in range(len(bounds) - 1):
        start, end, length = bounds[user], bounds[user + 1], sizes[user]
        if not length:
            continue
        worst, spread = order[start:end].min(), order[start:end].max() - order[start:end].min()
        counts[:] = 0
        is_free = np.ones(end - start, np.bool_)
        min_fresh = min(int(np.ceil(fresh_share * length)), is_fresh[start:end].sum())
        for rank in range(length):
            needs_fresh = min_fresh >= length - rank
            best, best_value = -1, -np.inf
            for row in range(start, end):
                if not is_free[row - start] or (needs_fresh and not is_fresh[row]):
                    continue
                relevance = (order[row] - worst) / spread if spread > 0 else 1.0
                same_share = counts[category[row]] / max(rank, 1) if category[row] >= 0 else 0.0
                value = (1 - diversity) * relevance - diversity * same_share
                if best < 0 or value > best_value:
                    best, best_value = row, value
            is_free[best - start] = False
            counts[category[best]] += 1
            min_fresh -= is_fresh[best]
            selected[place], ranks[place] = best, rank + 1
            place += 1
    return selected, ranks
