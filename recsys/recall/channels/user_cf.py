"""User-based collaborative filtering: what users like this one chose; popular items say little about likeness.

likeness(u, v) = Σ_i 1/log(2 + n_i) over items both chose / (sqrt(n_u · n_v) + 1), or Jaccard's union below; a score is
the sum over the most alike users, what they chose long ago counting less.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import functions as F
from scipy import sparse

from recsys.recall.history import Batch, History, batch_of
from recsys.settings import RecallSettings


@dataclass(frozen=True)
class UserCF:
    """Histories of the users who were active last, up to `user_cf_users`: `chosen` and `recent` (users, items)."""

    others: Batch
    rarity: NDArray[np.float32]
    neighbours: int
    similarity: str

    def score(self, batch: Batch) -> NDArray[np.float32]:
        """Sums over the most alike users."""
        together = (batch.chosen.multiply(self.rarity[None]).tocsr() @ self.others.chosen.T).toarray()
        mine, theirs = np.diff(batch.chosen.indptr)[:, None], np.diff(self.others.chosen.indptr)[None]
        norm = np.sqrt(mine * theirs) if self.similarity == "cosine" else mine + theirs - together
        alike = together / (norm + 1)
        alike[batch.users[:, None] == self.others.users[None]] = 0
        keep = min(self.neighbours, alike.shape[1])
        if not keep:
            return batch.nothing_for_cold(np.zeros(batch.chosen.shape))
        least = np.partition(alike, alike.shape[1] - keep, axis=1)[:, alike.shape[1] - keep, None]
        near = sparse.csr_matrix(np.where(alike >= np.maximum(least, 1e-12), alike, 0))
        return batch.nothing_for_cold((near @ self.others.recent).toarray())


def fit(history: History, settings: RecallSettings) -> UserCF:
    """Histories of the most recent users; rarity of the items."""
    newest = history.histories.orderBy(F.desc("last"), "user_id").limit(settings.user_cf_users)
    others = batch_of(newest.toPandas(), history.num_items, settings.history_half_life_days)
    rarity = 1 / np.log(2 + history.popularity)
    return UserCF(others, rarity.astype(np.float32), settings.user_cf_neighbours, settings.similarity)
