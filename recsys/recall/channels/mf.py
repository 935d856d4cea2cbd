"""The Bayesian factorisation as a channel: items by the probability of a click, place and exposure aside.

The other channels learn from what was chosen; this one from what was shown and not chosen, too. So it is not drawn to
what the site showed most, and has something to say about whoever was shown anything.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.recall.history import History, UserBatch
from recsys.recall.lists import TopItems
from recsys.recall.vectors import QUERIES, ItemVectors, build_vectors
from recsys.settings import RecallSettings


@dataclass(frozen=True)
class MFScorer:
    """Vectors of the newest factorisation that has not learned what the lists are measured on."""

    items: ItemVectors
    user_ids: NDArray[np.str_]  # (users,) sorted
    users: NDArray[np.float32]  # (users + 1, dim); the last one is for unknown users

    def top_items(self, batch: UserBatch, k: int) -> TopItems:
        """Items by log odds, for cold users as well."""
        ids = batch.users.astype(str)
        codes = np.minimum(np.searchsorted(self.user_ids, ids), max(len(self.user_ids) - 1, 0))  # (users,)
        is_known = self.user_ids[codes] == ids if len(self.user_ids) else np.zeros(len(ids), bool)
        return self.items.top(self.users[np.where(is_known, codes, -1)], batch, k, takes_cold=True)


def fit(history: History, settings: RecallSettings) -> MFScorer:
    """Take the vectors of `history.factors`: `recsys mf` trains them before recall, of the same rows.

    Raises:
        ValueError: there are none.
    """
    if history.factors is None:
        raise ValueError("the channel mf needs a factorisation")
    user_ids, users = history.factors.user_vectors()
    vectors = history.factors.item_vectors(history.items, history.now)
    # Spread over all users: the first ones by id may be alike, as ids often tell when somebody came.
    queries = users[:: max(1, len(users) // QUERIES)]
    # Every item has a vector: of one that nobody was shown it is what its category and author make likely.
    listed = np.arange(history.num_items)
    return MFScorer(build_vectors("mf", vectors, listed, queries, settings.exact_items), user_ids, users)
