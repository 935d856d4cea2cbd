"""A linear user model in closed form: a user's history as a ridge regression on the histories of other users.

The mirror image of EASE: with users' histories X (users, items), the weights of the others for user v are
w = (X Xᵀ + λI)⁻¹ X x_v = P X x_v, and a score is the weighted sum of the others' histories, wᵀX = x_vᵀ(XᵀPX): a linear
model between items, M = XᵀQ with Q = PX. For a user who is among the rows, their own entry is removed in closed form,
as EASE removes the diagonal (Steck 2019): w − P[:, v] · w_v / P_vv, so that x_vᵀM loses (x_vᵀQ_v / P_vv) · Q_v.
"""

import logging
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from recsys.recall.channels.linear import LinearModel, inverse, popular_items
from recsys.recall.history import History, UserBatch
from recsys.recall.lists import TopItems
from recsys.settings import RecallSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class UserEaseScorer:
    """The model between items, and what a user of the model has added to it."""

    users: NDArray[np.object_]  # (others,) ids
    model: LinearModel  # M
    own_rows: NDArray[np.float32]  # (others, popular) Q = P X
    own_diagonal: NDArray[np.float32]  # (others,) of P

    def top_items(self, batch: UserBatch, k: int) -> TopItems:
        """Items by the sum of the other users' histories, each by its weight for the user."""
        own = self._ids.get_indexer(pd.Index(batch.users)).astype(np.int64)
        scale = np.ones(len(batch.users), np.float32)
        return self.model.top_items(batch, k, scale, own, self.own_rows, self.own_diagonal)

    @cached_property
    def _ids(self) -> pd.Index:
        return pd.Index(self.users)


def fit(history: History, settings: RecallSettings) -> UserEaseScorer:
    """Invert the Gram matrix of the `user_ease_users` users who were active last, on the driver.

    Of their items, the `ease_items` most popular ones are in the model: it is a dense matrix between items.
    """
    others = history.newest_users(settings.user_ease_users, "user_ease (recall.user_ease_users)")
    popularity = np.asarray(others.chosen.sum(axis=0), np.float64).ravel()
    popular = popular_items(popularity, settings.ease_items)
    num_chosen = int((popularity > 0).sum())
    if len(popular) < num_chosen:
        log.info(
            "user_ease: its users chose %d items, more than recall.ease_items: the %d most popular ones are proposed",
            num_chosen, len(popular),
        )  # fmt: skip
    chosen = others.chosen[:, popular].astype(np.float64)
    # The smaller matrix is inverted, where that is possible: by items only if all chosen items are in the model.
    solve = _solve_by_items if len(popular) == num_chosen < len(others.users) else _solve_by_users
    model, own_rows, diagonal = solve(others.chosen, chosen, settings.user_ease_l2)
    linear = LinearModel(model.astype(np.float32), popular, history.num_items)
    return UserEaseScorer(others.users, linear, own_rows.astype(np.float32), diagonal.astype(np.float32))


Solution = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def _solve_by_users(all_chosen: sparse.csr_matrix, chosen: sparse.csr_matrix, l2: float) -> Solution:
    """M (popular, popular), Q (others, popular) and the diagonal of P, by the inverse over users.

    Args:
        all_chosen: (others, items) histories, which make users alike.
        chosen: (others, popular) the part of them that is proposed.
        l2: λ.
    """
    gram = (all_chosen @ all_chosen.T).toarray().astype(np.float64)  # (others, others) X Xᵀ
    gram[np.diag_indices_from(gram)] += l2
    weights = inverse(gram)
    own_rows = np.ascontiguousarray((chosen.T @ weights).T)  # P is symmetric
    return chosen.T @ own_rows, own_rows, np.diag(weights)


def _solve_by_items(all_chosen: sparse.csr_matrix, chosen: sparse.csr_matrix, l2: float) -> Solution:
    """The same where items are fewer than users: (XXᵀ + λI)⁻¹X = X(XᵀX + λI)⁻¹, and P = (I − X(XᵀX + λI)⁻¹Xᵀ) / λ."""
    gram = (chosen.T @ chosen).toarray()  # (popular, popular) XᵀX
    gram[np.diag_indices_from(gram)] += l2
    weights = inverse(gram)
    own_rows = chosen @ weights  # (others, popular)
    return chosen.T @ own_rows, own_rows, (1 - np.asarray(chosen.multiply(own_rows).sum(axis=1)).ravel()) / l2
