"""The best items by a product of two sparse matrices: what several channels come to."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.recall import kernels
from recsys.recall.history import UserBatch
from recsys.recall.lists import TopItems, empty_lists, top_items


def top_products(
    left: sparse.csr_matrix, right: sparse.csr_matrix, batch: UserBatch, k: int, *, zeros_count: bool
) -> TopItems:
    """The items with the largest entries of left @ right, of which only a row at a time is ever there.

    Args:
        left: (users, middle), no entry negative.
        right: (middle, items), no entry negative.
        batch: of the same users.
        k: length of the lists, which have positive entries only.
        zeros_count: whether an item without an entry has the score 0; else it has none.
    """
    items, scores, moments = empty_lists(len(batch.users), k)
    # CSR arrays instead of matrices: compiled code takes no scipy objects.
    product = (left.indptr, left.indices, left.data, right.indptr, right.indices, right.data, right.shape[1])
    history = (batch.excluded.indptr, batch.excluded.indices)
    kernels.top_products(*product, *history, items, scores, moments, 0, len(items))
    if zeros_count:
        # Zeros change neither the sum nor the sum of squares: only their number is added.
        moments[:, 0] = right.shape[1] - np.diff(batch.excluded.indptr)

    def score_pairs(pairs: NDArray[np.int32]) -> NDArray[np.float32]:
        values = np.empty(pairs.shape, np.float32)
        kernels.product_pairs(*product, pairs, values, 0, len(pairs))
        # No entry is negative, so a value of 0 is no entry.
        is_scored = (pairs >= 0) & ((values > 0) | zeros_count)
        return np.where(is_scored, values, np.float32(-np.inf))

    return top_items(items, scores, moments, batch.is_cold, score_pairs)
