"""A linear user model in closed form: a user's history as a ridge regression on the histories of other users.

The mirror image of EASE: with users' histories X (users, items), the weights of the others for user v are
(X Xᵀ + λI)⁻¹ X x_v; for a user who is among the rows, their own entry is removed in closed form, as EASE removes the
diagonal (Steck 2019). A score is the weighted sum of the others' histories.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse

from recsys.recall.history import History, UserBatch, user_batch
from recsys.settings import RecallSettings


@dataclass(frozen=True)
class UserEaseScorer:
    """Histories of the model's users and the inverse that weighs them."""

    users: NDArray[np.object_]  # (others,) ids
    chosen: sparse.csr_matrix  # (others, items) X
    inverse: NDArray[np.float32]  # (others, others) P = (X Xᵀ + λI)⁻¹

    def score(self, batch: UserBatch) -> NDArray[np.float32]:
        """Sum of the other users' histories, each by its weight for the user; (users, items)."""
        position = {user: row for row, user in enumerate(self.users)}
        own = np.array([position.get(user, -1) for user in batch.users], np.int64)  # (users,) own row, −1: none
        weights = (self.chosen @ batch.chosen.T).T.toarray().astype(np.float32) @ self.inverse  # (users, others)
        in_model = np.flatnonzero(own >= 0)
        # w without v: w − P[:, v] · w_v / P_vv.
        own_weight = weights[in_model, own[in_model]] / self.inverse[own[in_model], own[in_model]]
        weights[in_model] -= own_weight[:, None] * self.inverse[own[in_model]]
        weights[in_model, own[in_model]] = 0  # exactly, where rounding leaves a little
        return batch.mask_cold(weights @ self.chosen)


def fit(history: History, settings: RecallSettings) -> UserEaseScorer:
    """Invert the users' Gram matrix on the driver, for the `user_ease_users` users who were active last."""
    newest = history.newest_users(settings.user_ease_users)
    others = user_batch(newest, history.num_items, settings.history_half_life_days)
    gram = (others.chosen @ others.chosen.T).toarray().astype(np.float64)
    gram[np.diag_indices_from(gram)] += settings.user_ease_l2
    inverse = linalg.inv(gram, overwrite_a=True, check_finite=False) if len(gram) else gram
    return UserEaseScorer(others.users, others.chosen, inverse.astype(np.float32))
