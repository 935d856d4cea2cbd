"""The best items by a dense linear model between items, as EASE and its mirror image are."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from recsys.recall import kernels
from recsys.recall.history import UserBatch
from recsys.recall.lists import TopItems, empty_lists, top_items


@dataclass(frozen=True)
class LinearModel:
    """Weights between some items, the popular ones; the others are neither scored nor read."""

    weights: NDArray[np.float32]  # (popular, popular), from an item of the history to a scored one
    popular: NDArray[np.int64]  # (popular,) item numbers, ascending
    num_items: int

    def top_items(
        self,
        batch: UserBatch,
        k: int,
        scale: NDArray[np.float32],
        own: NDArray[np.int64],
        own_rows: NDArray[np.float32],
        own_diagonal: NDArray[np.float32],
    ) -> TopItems:
        """The items with the largest scale · (x @ weights), less the part of the user in the model.

        Args:
            batch: users.
            k: length of the lists.
            scale: (users,) factor of a user's scores.
            own: (users,) the user's row in `own_rows`, −1 if the user is not in the model.
            own_rows: (model users, popular) see `user_ease`.
            own_diagonal: (model users,).
        """
        chosen = batch.chosen[:, self.popular]  # (users, popular)
        model = (chosen.indptr, chosen.indices, self.weights, scale, own, own_rows, own_diagonal)
        excluded = chosen if batch.hidden is None else batch.hidden[:, self.popular]
        items, scores, moments = empty_lists(len(batch.users), k)
        kernels.top_linear(*model, excluded.indptr, excluded.indices, items, scores, moments, 0, len(items))
        # The last number is what position −1, an empty place of a list, stands for.
        numbers = np.append(self.popular, -1).astype(np.int32)
        position = np.full(self.num_items + 1, -1, np.int32)  # the last is that of item −1
        position[self.popular] = np.arange(len(self.popular))

        def score_pairs(pairs: NDArray[np.int32]) -> NDArray[np.float32]:
            values = np.empty(pairs.shape, np.float32)
            kernels.linear_pairs(*model, position[pairs], values, 0, len(pairs))
            return values

        return top_items(numbers[items], scores, moments, batch.is_cold, score_pairs)


def popular_items(popularity: NDArray[np.float64], limit: int) -> NDArray[np.int64]:
    """The `limit` most popular items that somebody chose, ascending; ties by number."""
    popular = np.sort(np.argsort(-popularity, kind="stable")[:limit])
    return popular[popularity[popular] > 0]


def inverse(gram: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse of a symmetric positive definite matrix, which is overwritten; half the work of a general one."""
    if not len(gram):
        return gram
    # Cholesky, then the inverse of its product: LAPACK reads and writes the lower triangle alone.
    factor, info = linalg.lapack.dpotrf(gram, lower=1, overwrite_a=1, clean=0)
    if not info:
        factor, info = linalg.lapack.dpotri(factor, lower=1, overwrite_c=1)
    if info:
        raise np.linalg.LinAlgError(f"the matrix is not positive definite: LAPACK says {info}")
    # Above the diagonal there is what LAPACK left: it is replaced by the lower triangle's mirror image.
    lower = np.tril(factor)
    return np.asarray(lower + np.tril(factor, -1).T)
