"""A linear user model in closed form: a user's history as a ridge regression on the histories of other users.

The mirror image of EASE: with users' histories X (users, items), weights of the others for user v are
(X Xᵀ + λI)⁻¹ X x_v; for a user who is among the rows, the entry for themselves is taken out in closed form, as EASE
takes out the diagonal (Steck 2019). A score is the weighted sum of the others' histories.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import functions as F
from scipy import linalg, sparse

from recsys.recall.history import Batch, History, batch_of
from recsys.settings import RecallSettings


@dataclass(frozen=True)
class UserEase:
    """`inverse` (users, users) of X Xᵀ + λI, for the `users` with the histories `chosen` (users, items)."""

    users: NDArray[np.object_]
    chosen: sparse.csr_matrix
    inverse: NDArray[np.float32]

    def score(self, batch: Batch) -> NDArray[np.float32]:
        """Histories of others, each by its weight for the user."""
        place = {user: row for row, user in enumerate(self.users)}
        own = np.array([place.get(user, -1) for user in batch.users], np.int64)
        weights = (self.chosen @ batch.chosen.T).T.toarray().astype(np.float32) @ self.inverse
        indexed = np.flatnonzero(own >= 0)
        # w without v: w − P[:, v] · w_v / P_vv.
        alone = weights[indexed, own[indexed]] / self.inverse[own[indexed], own[indexed]]
        weights[indexed] -= alone[:, None] * self.inverse[own[indexed]]
        weights[indexed, own[indexed]] = 0
        return batch.nothing_for_cold(weights @ self.chosen)


def fit(history: History, settings: RecallSettings) -> UserEase:
    """The `user_ease_users` users who were active last; the inverse is made on the driver and costs the cube."""
    newest = history.histories.orderBy(F.desc("last"), "user_id").limit(settings.user_ease_users)
    others = batch_of(newest.toPandas(), history.num_items, settings.history_half_life_days)
    gram = (others.chosen @ others.chosen.T).toarray().astype(np.float64)
    gram[np.diag_indices_from(gram)] += settings.user_ease_l2
    inverse = linalg.inv(gram, overwrite_a=True, check_finite=False) if len(gram) else gram
    return UserEase(others.users, others.chosen, inverse.astype(np.float32))
