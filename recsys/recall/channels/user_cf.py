"""User-based collaborative filtering: what similar users chose; popular items say little about similarity.

common(u, v) = Σ_i 1/log(2 + n_i) over the items i that both chose. Cosine: common(u, v) / (sqrt(n_u · n_v) + 1).
Jaccard: common(u, v) / (common(u, u) + common(v, v) − common(u, v) + 1), the union being weighted as the intersection
is. A score is the sum over the most similar users, what they chose long ago counting less.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from recsys.recall.channels.products import top_products
from recsys.recall.history import History, UserBatch
from recsys.recall.kernels import accumulate_common, jit, push
from recsys.recall.lists import TopItems
from recsys.settings import RecallSettings


@dataclass(frozen=True)
class UserCFScorer:
    """Histories of the users who were active last, among whom similar ones are searched."""

    others: UserBatch
    rarity: NDArray[np.float32]  # (items,) weight of an item that two users have in common
    num_neighbours: int
    similarity: str  # cosine or jaccard

    def top_items(self, batch: UserBatch, k: int) -> TopItems:
        """Items by the summed similarity of the nearest users who chose them."""
        neighbours = self._neighbours(batch)  # (users, others), sparse
        return top_products(neighbours, self.others.recent, batch, k, zeros_count=True)

    def _neighbours(self, batch: UserBatch) -> sparse.csr_matrix:
        """(users, others) similarity of each user's nearest others."""
        own = self._ids.get_indexer(pd.Index(batch.users))
        size, other_size = self._sizes(batch.chosen), self._sizes(self.others.chosen)
        lengths = np.zeros(len(batch.users), np.int64)
        numbers, values = _nearest_users(
            batch.chosen.indptr, batch.chosen.indices, self._by_item.indptr, self._by_item.indices, self.rarity,
            own, size, other_size, self.num_neighbours, self.similarity == "cosine", lengths,
        )  # fmt: skip
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        return sparse.csr_matrix((values, numbers, indptr), shape=(len(batch.users), len(other_size)))

    def _sizes(self, chosen: sparse.csr_matrix) -> NDArray[np.float64]:
        """(users,) the size of a history in the norm: the root of its length, or its weight."""
        if self.similarity == "cosine":
            return np.asarray(np.sqrt(np.diff(chosen.indptr)), np.float64)
        # common(u, u): a history in common with itself.
        weights: NDArray[np.float64] = chosen @ self.rarity.astype(np.float64)
        return weights

    @cached_property
    def _by_item(self) -> sparse.csr_matrix:
        return self.others.chosen.T.tocsr()  # (items, others)

    @cached_property
    def _ids(self) -> pd.Index:
        return pd.Index(self.others.users)


def fit(history: History, settings: RecallSettings) -> UserCFScorer:
    """Take the histories of the `user_cf_users` users who were active last, and the items' rarity."""
    others = history.newest_users(settings.user_cf_users, "user_cf (recall.user_cf_users)")
    # 2 and not 1: the log would be 0 for an item that nobody chose.
    rarity = 1 / np.log(2 + history.popularity)
    return UserCFScorer(others, rarity.astype(np.float32), settings.user_cf_neighbours, settings.similarity)


@jit
def _nearest_users(  # type: ignore[no-untyped-def]
    indptr, indices, item_indptr, item_indices, rarity, own, size, other_size, k, is_cosine, lengths
):
    """Numbers and similarities of each row's k most similar others, one row after the other; `lengths` out.

    At least k, since ties at the k-th similarity all vote.
    """
    num_others = len(other_size)
    common, touched = np.zeros(num_others), np.empty(num_others, np.int32)
    similarity, best, best_positions = np.empty(num_others, np.float32), np.empty(k, np.float32), np.empty(k, np.int32)
    # Grown as rows need them: how many neighbours tie at the k-th place is not known before.
    numbers, values, used = np.empty(1024, np.int32), np.empty(1024, np.float32), 0
    for row in range(len(indptr) - 1):
        # Only users with an item in common are touched: the others' similarity is 0.
        count = accumulate_common(row, indptr, indices, rarity, item_indptr, item_indices, common, touched)
        for position in range(count):
            other = touched[position]
            norm = size[row] * other_size[other] if is_cosine else size[row] + other_size[other] - common[other]
            # Nobody is their own neighbour.
            similarity[position] = 0.0 if other == own[row] else common[other] / (norm + 1)
            common[other] = 0.0
        # The k-th similarity, 0 where there are fewer.
        best[:], num_best = 0, 0
        for position in range(count):
            if num_best < k or similarity[position] > best[0]:
                num_best = push(best, best_positions, num_best, similarity[position], position)
        least = best[0] if num_best == k else np.float32(0)
        if used + count > len(numbers):
            numbers = np.concatenate((numbers, np.empty(len(numbers) + count, np.int32)))
            values = np.concatenate((values, np.empty(len(values) + count, np.float32)))
        before = used
        for position in range(count):
            if similarity[position] >= least and similarity[position] > 0:
                numbers[used], values[used] = touched[position], similarity[position]
                used += 1
        lengths[row] = used - before
    return numbers[:used], values[:used]
