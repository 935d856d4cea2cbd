"""Re-ranking of served lists: diversity by category (MMR, Carbonell and Goldstein 1998), and room for fresh items."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.settings import RecommendSettings


def rerank(candidates: pd.DataFrame, settings: RecommendSettings) -> pd.DataFrame:
    """The first `length` of each user with new `rank`; needs user_id, item_id, rank, order, category and is_fresh.

    `order` is the blend's score. Place by place, what maximises (1 − diversity) · relevance − diversity · share of
    the list so far that has the same category; relevance goes from 1 for the user's best to 0. Fresh items move up
    into the last places that are theirs by `fresh_share`, when the list has too few.
    """
    ordered = candidates.sort_values(["user_id", "rank"], ignore_index=True)
    if ordered.empty:
        return ordered
    users = ordered["user_id"].to_numpy()
    starts = np.flatnonzero(np.append(True, users[1:] != users[:-1]))
    codes = ordered["category"].factorize()[0]
    order, fresh = ordered["order"].to_numpy(), ordered["is_fresh"].to_numpy()
    picked, ranks = [], []
    for start, end in zip(starts, np.append(starts[1:], len(users)), strict=True):
        best = start + pick(order[start:end], codes[start:end], fresh[start:end], settings)
        picked.append(best)
        ranks.append(np.arange(1, len(best) + 1))
    return ordered.loc[np.concatenate(picked)].assign(rank=np.concatenate(ranks)).reset_index(drop=True)


def pick(
    order: NDArray[np.float64], category: NDArray[np.int64], is_fresh: NDArray[np.bool_], settings: RecommendSettings
) -> NDArray[np.int64]:
    """Places (of candidates sorted best first) that make the list of one user."""
    length = min(settings.length, len(order))
    spread = order.max() - order.min()
    relevance = (order - order.min()) / spread if spread > 0 else np.ones(len(order))
    value = (1 - settings.diversity) * relevance
    counts = np.zeros(category.max(initial=-1) + 2)  # the last for no category: never alike
    chosen: list[int] = []
    is_free = np.ones(len(order), bool)
    min_fresh = min(int(np.ceil(settings.fresh_share * length)), int(is_fresh.sum()))
    num_fresh = 0
    for place in range(length):
        alike = np.where(category >= 0, counts[category], 0) / max(place, 1)
        allowed = is_free & is_fresh if min_fresh - num_fresh >= length - place else is_free
        best = int(np.argmax(np.where(allowed, value - settings.diversity * alike, -np.inf)))
        chosen.append(best)
        is_free[best] = False
        counts[category[best]] += 1
        num_fresh += bool(is_fresh[best])
    return np.array(chosen, np.int64)
