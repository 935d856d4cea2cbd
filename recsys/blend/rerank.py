"""Re-ranking of the served lists by rules: diversity by category (MMR, Carbonell and Goldstein 1998), fresh items,
boosts, caps of categories, excluded items.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray

from recsys.settings import RecommendSettings


def rerank(candidates: pd.DataFrame, settings: RecommendSettings) -> pd.DataFrame:
    """Select and order the first `recommend.length` items of each user's list.

    Args:
        candidates: user_id, item_id, rank (from 1), order (the score behind it), category, author and is_fresh.
        settings: the section `recommend`.

    Returns:
        The selected candidates by user and new `rank`.
    """
    is_excluded = candidates["item_id"].isin(settings.exclude_items)
    ordered = candidates[~is_excluded].sort_values(["user_id", "rank"], ignore_index=True)
    if ordered.empty:
        return ordered
    users = ordered["user_id"].to_numpy()
    bounds = np.flatnonzero(np.concatenate([[True], users[1:] != users[:-1], [True]]))
    codes = ordered["category"].factorize()[0]  # −1 for no category
    order, fresh = ordered["order"].to_numpy(np.float64), ordered["is_fresh"].to_numpy(bool)
    boost = boosts({name: ordered[name] for name in settings.boosts}, fresh, settings)
    selected, ranks = _select_lists(order, codes, fresh, boost, bounds, *_rules(settings))
    return ordered.loc[selected].assign(rank=ranks).reset_index(drop=True)


def boosts(
    attributes: Mapping[str, Sequence[str | None]], is_fresh: NDArray[np.bool_], settings: RecommendSettings
) -> NDArray[np.float64]:
    """(n,) what `recommend.boosts` and `recommend.fresh_boost` add to the relevance of items.

    Args:
        attributes: name -> (n,) values, of each that `recommend.boosts` names.
        is_fresh: (n,).
        settings: the section `recommend`.
    """
    total = settings.fresh_boost * is_fresh.astype(np.float64)
    for name, of_value in settings.boosts.items():
        total += [of_value.get(value, 0.0) if value is not None else 0.0 for value in attributes[name]]
    return np.asarray(total, np.float64)


def select(
    order: NDArray[np.float64],
    category: NDArray[np.int64],
    is_fresh: NDArray[np.bool_],
    boost: NDArray[np.float64],
    settings: RecommendSettings,
) -> NDArray[np.int64]:
    """Select one user's list greedily by maximal marginal relevance.

    Each rank gets the item that maximises (1 − d) · relevance − d · share of the list so far with the same category,
    where d is `recommend.diversity` and relevance goes from 1 for the user's best item to 0, plus its boost. A category
    that has `recommend.max_per_category` items gets no more. Once the ranks that are left are just enough for
    `recommend.fresh_share`, only fresh items are taken, as far as the cap leaves any.

    Args:
        order: (n,) scores, best first.
        category: (n,) codes, −1 for no category, which is like no other.
        is_fresh: (n,).
        boost: (n,) of `boosts`.
        settings: the section `recommend`.

    Returns:
        Positions among the candidates, in the order of the list.
    """
    bounds = np.array([0, len(order)])
    selected, _ = _select_lists(order, category, is_fresh, boost, bounds, *_rules(settings))
    return np.asarray(selected)


def _rules(settings: RecommendSettings) -> tuple[float, float, int, int]:
    """What `_select_lists` takes of the settings."""
    cap = settings.max_per_category or settings.length
    return settings.diversity, settings.fresh_share, cap, settings.length


@njit(cache=True, nogil=True)
def _select_lists(  # type: ignore[no-untyped-def]
    order, category, is_fresh, boost, bounds, diversity, fresh_share, cap, max_length
):
    """Positions and ranks (from 1) of all users' lists; user u has the candidates bounds[u] to bounds[u + 1]."""
    counts = np.zeros(category.max() + 2 if len(category) else 1, np.int64)  # by category; the last for code −1
    lengths = np.minimum(np.diff(bounds), max_length)
    selected, ranks = np.empty(lengths.sum(), np.int64), np.empty(lengths.sum(), np.int64)
    place = 0
    for user in range(len(bounds) - 1):
        start, end, length = bounds[user], bounds[user + 1], lengths[user]
        if not length:
            continue
        worst, spread = order[start:end].min(), order[start:end].max() - order[start:end].min()
        counts[:] = 0
        is_free = np.ones(end - start, np.bool_)
        min_fresh = min(int(np.ceil(fresh_share * length)), is_fresh[start:end].sum())
        for rank in range(length):
            best, best_value, fresh, fresh_value = -1, -np.inf, -1, -np.inf
            for row in range(start, end):
                same = counts[category[row]] if category[row] >= 0 else 0
                if not is_free[row - start] or same >= cap:
                    continue
                relevance = (order[row] - worst) / spread if spread > 0 else 1.0
                value = (1 - diversity) * (relevance + boost[row]) - diversity * same / max(rank, 1)
                if best < 0 or value > best_value:
                    best, best_value = row, value
                if is_fresh[row] and (fresh < 0 or value > fresh_value):
                    fresh, fresh_value = row, value
            if min_fresh >= length - rank and fresh >= 0:  # the ranks that are left are for fresh items
                best = fresh
            if best < 0:  # all categories have as many as they may
                break
            is_free[best - start] = False
            counts[category[best]] += 1
            min_fresh -= is_fresh[best]
            selected[place], ranks[place] = best, rank + 1
            place += 1
    return selected[:place], ranks[:place]
