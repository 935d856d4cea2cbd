"""User-based collaborative filtering: what similar users chose; popular items say little about similarity.

common(u, v) = Σ_i 1/log(2 + n_i) over the items i that both chose. Cosine: common(u, v) / (sqrt(n_u · n_v) + 1).
Jaccard: common(u, v) / (common(u, u) + common(v, v) − common(u, v) + 1), the union being weighted as the intersection
is. A score is the sum over the most similar users, what they chose long ago counting less.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.recall.history import History, UserBatch, user_batch
from recsys.settings import RecallSettings


@dataclass(frozen=True)
class UserCFScorer:
    """Histories of the users who were active last, among whom similar ones are searched."""

    others: UserBatch
    rarity: NDArray[np.float32]  # (items,) weight of an item that two users have in common
    num_neighbours: int
    similarity: str  # cosine or jaccard

    def score(self, batch: UserBatch) -> NDArray[np.float32]:
        """Summed similarity (users, items) of the nearest users who chose the item."""
        common = (batch.chosen.multiply(self.rarity[None]).tocsr() @ self.others.chosen.T).toarray()  # (users, others)
        if self.similarity == "cosine":
            norm = np.sqrt(np.diff(batch.chosen.indptr)[:, None] * np.diff(self.others.chosen.indptr)[None])
        else:
            norm = (batch.chosen @ self.rarity)[:, None] + (self.others.chosen @ self.rarity)[None] - common
        similarity = common / (norm + 1)
        similarity[batch.users[:, None] == self.others.users[None]] = 0  # nobody is their own neighbour
        k = min(self.num_neighbours, similarity.shape[1])
        if not k:
            return batch.mask_cold(np.zeros(batch.chosen.shape))
        kth = np.partition(similarity, similarity.shape[1] - k, axis=1)[:, similarity.shape[1] - k, None]
        # (users, others): at least k, since ties at the k-th similarity all vote.
        nearest = sparse.csr_matrix(np.where(similarity >= np.maximum(kth, 1e-12), similarity, 0))
        return batch.mask_cold((nearest @ self.others.recent).toarray())


def fit(history: History, settings: RecallSettings) -> UserCFScorer:
    """Collect the histories of the `user_cf_users` users who were active last, and the items' rarity."""
    newest = history.newest_users(settings.user_cf_users)
    others = user_batch(newest, history.num_items, settings.history_half_life_days)
    rarity = 1 / np.log(2 + history.popularity)
    return UserCFScorer(others, rarity.astype(np.float32), settings.user_cf_neighbours, settings.similarity)
