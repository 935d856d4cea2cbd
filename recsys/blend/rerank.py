"""Re-ranking of the served lists by rules: diversity by category (MMR, Carbonell and Goldstein 1998), fresh items,
boosts, caps of categories, excluded items.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
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
    starts = np.flatnonzero(np.append(True, users[1:] != users[:-1]))
    codes = ordered["category"].factorize()[0]  # −1 for no category
    order, fresh = ordered["order"].to_numpy(), ordered["is_fresh"].to_numpy()
    boost = boosts({name: ordered[name] for name in settings.boosts}, fresh, settings)
    selected, ranks = [], []
    for start, end in zip(starts, np.append(starts[1:], len(users)), strict=True):
        positions = start + select(order[start:end], codes[start:end], fresh[start:end], boost[start:end], settings)
        selected.append(positions)
        ranks.append(np.arange(1, len(positions) + 1))
    return ordered.loc[np.concatenate(selected)].assign(rank=np.concatenate(ranks)).reset_index(drop=True)


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
    length = min(settings.length, len(order))
    spread = order.max() - order.min()
    relevance = (order - order.min()) / spread if spread > 0 else np.ones(len(order))
    value = (1 - settings.diversity) * (relevance + boost)
    cap = settings.max_per_category or length
    # How many items of each category the list has so far.
    counts = np.zeros(category.max(initial=-1) + 2)  # (categories + 1,); the last for code −1
    selected: list[int] = []
    is_free = np.ones(len(order), bool)
    min_fresh = min(int(np.ceil(settings.fresh_share * length)), int(is_fresh.sum()))
    num_fresh = 0
    for rank in range(length):
        same_share = np.where(category >= 0, counts[category], 0) / max(rank, 1)
        is_allowed = is_free & ((category < 0) | (counts[category] < cap))
        if min_fresh - num_fresh >= length - rank and (is_allowed & is_fresh).any():
            is_allowed &= is_fresh
        if not is_allowed.any():
            break
        best = int(np.argmax(np.where(is_allowed, value - settings.diversity * same_share, -np.inf)))
        selected.append(best)
        is_free[best] = False
        counts[category[best]] += 1
        num_fresh += bool(is_fresh[best])
    return np.array(selected, np.int64)
