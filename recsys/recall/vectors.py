"""Nearest items by inner product: exact for few items, an inverted index of FAISS (IVF) for many."""

import logging
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.recall import kernels
from recsys.recall.history import UserBatch
from recsys.recall.lists import TopItems, empty_lists, top_items

log = logging.getLogger(__name__)

TILE = (256, 2048)  # users and items of a matrix product of the exact search: 2 MB, which the cache holds
SLACK = 8  # more items than asked for: those about the last place change places when they are scored exactly
MIN_RECALL = 0.98  # of the exact search's items, that the inverted index must have
QUERIES = 500  # users that the recall is measured on
RECALL_AT = 50


@dataclass(frozen=True)
class ItemVectors:
    """Vectors of all items, and an index of those that may be proposed."""

    vectors: NDArray[np.float32]  # (items, dim)
    listed: NDArray[np.int64]  # item numbers that may be proposed, ascending
    serialized: NDArray[np.uint8] | None = field(repr=False, default=None)  # FAISS index of the listed; None: exact

    def top(self, users: NDArray[np.float32], batch: UserBatch, k: int, *, takes_cold: bool = False) -> TopItems:
        """The k items of each user with the largest inner products.

        Args:
            users: (users, dim) vectors.
            batch: of the same users.
            k: length of the lists.
            takes_cold: whether vectors of users without a history mean anything; else they get no list.
        """
        users = np.ascontiguousarray(users, np.float32)
        positions = self._search(users, batch.excluded[:, self.listed], k + SLACK)
        items = np.where(positions >= 0, self.listed[positions] if len(self.listed) else -1, -1).astype(np.int32)
        scores = self._score(users, items)
        # By the exact scores: the tiles' products are rounded by the rows beside them.
        kernels.sort_lists(items, scores, 0, len(items))
        items, scores = items[:, :k].copy(), scores[:, :k].copy()
        is_cold = None if takes_cold else batch.is_cold
        return top_items(items, scores, self._moments(users, batch), is_cold, partial(self._score, users))

    def _score(self, users: NDArray[np.float32], items: NDArray[np.int32]) -> NDArray[np.float32]:
        scores = np.empty(items.shape, np.float32)
        kernels.vector_pairs(users, self.vectors, items, scores, 0, len(items))
        return scores

    def _search(self, users: NDArray[np.float32], chosen: sparse.csr_matrix, k: int) -> NDArray[np.int32]:
        """(users, k) positions in `listed`, −1 where there are fewer; without `chosen` (users, listed)."""
        if self.serialized is None:
            return exact_search(self._listed_vectors, users, chosen, k)
        return _index_search(self._index, users, chosen, k)

    def _moments(self, users: NDArray[np.float32], batch: UserBatch) -> NDArray[np.float64]:
        """Number, sum and sum of squares of a user's scores without the chosen items, in closed form."""
        total, gram = self._sums  # (dim,), (dim, dim)
        wide = users.astype(np.float64)
        moments = np.empty((len(users), 3))
        chosen = np.zeros((len(users), 2))
        history = (batch.excluded.indptr, batch.excluded.indices)
        kernels.chosen_moments(users, self.vectors, *history, chosen, 0, len(users))
        moments[:, 0] = len(self.vectors) - np.diff(batch.excluded.indptr)
        # Σ_i <u, v_i> = <u, Σ v_i>: no score is computed for it.
        moments[:, 1] = wide @ total - chosen[:, 0]
        # Σ_i <u, v_i>² = uᵀ (Σ v_i v_iᵀ) u.
        moments[:, 2] = np.einsum("ij,ij->i", wide @ gram, wide) - chosen[:, 1]
        return moments

    @cached_property
    def _sums(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        wide = self.vectors.astype(np.float64)
        return wide.sum(axis=0), wide.T @ wide

    @cached_property
    def _listed_vectors(self) -> NDArray[np.float32]:
        return np.ascontiguousarray(self.vectors[self.listed])

    @cached_property
    def _index(self) -> Any:
        import faiss

        assert self.serialized is not None
        return faiss.deserialize_index(self.serialized)

    def __getstate__(self) -> dict[str, Any]:
        """Without what `cached_property` added: FAISS objects are rebuilt once in each process."""
        return {name: self.__dict__[name] for name in ("vectors", "listed", "serialized")}


def build_vectors(
    name: str, vectors: NDArray[np.float32], listed: NDArray[np.int64], queries: NDArray[np.float32], max_exact: int
) -> ItemVectors:
    """Index the listed items: exactly up to `max_exact`, beyond it by inverted lists with a recall of MIN_RECALL.

    Args:
        name: of the channel, for the log.
        vectors: (items, dim).
        listed: item numbers that may be proposed.
        queries: (users, dim) vectors of some users, which the number of lists to visit is chosen on.
        max_exact: most items that are searched exactly.
    """
    vectors = np.ascontiguousarray(vectors, np.float32)
    if len(listed) <= max_exact:
        return ItemVectors(vectors, listed)
    import faiss

    indexed = np.ascontiguousarray(vectors[listed])
    # FAISS advises 4√n to 16√n lists for less than a million vectors; how many are visited is measured below.
    num_lists = int(4 * np.sqrt(len(listed)))
    index: Any = faiss.index_factory(vectors.shape[1], f"IVF{num_lists},Flat", faiss.METRIC_INNER_PRODUCT)
    index.cp.seed, index.cp.niter = 1234, 10
    index.train(indexed)
    index.add(indexed)
    recall = _choose_probes(index, indexed, queries[:QUERIES])
    log.info(
        "%s: %d items are more than recall.exact_items=%d: searched by %d of %d inverted lists, which have %.3f of the "
        "%d nearest items",
        name, len(listed), max_exact, index.nprobe, num_lists, recall, RECALL_AT,
    )  # fmt: skip
    return ItemVectors(vectors, listed, faiss.serialize_index(index))


def _choose_probes(index: Any, indexed: NDArray[np.float32], queries: NDArray[np.float32]) -> float:
    """Set the least number of lists, by steps of 1.5, that have MIN_RECALL of the nearest items; return their share."""
    nothing = sparse.csr_matrix((len(queries), len(indexed)), dtype=np.float32)
    exact = exact_search(indexed, queries, nothing, RECALL_AT)
    probes, recall = 8, 0.0
    while recall < MIN_RECALL and probes < index.nlist:
        probes = min(int(probes * 1.5), index.nlist)
        index.nprobe = probes
        nearest = index.search(queries, RECALL_AT)[1]
        hits = [len(np.intersect1d(*pair)) for pair in zip(exact, nearest, strict=True)]  # of each query
        recall = float(np.mean(hits)) / RECALL_AT if hits else 1.0
    return recall


def exact_search(
    vectors: NDArray[np.float32], users: NDArray[np.float32], chosen: sparse.csr_matrix, k: int
) -> NDArray[np.int32]:
    """(users, k) rows of `vectors` with the largest inner products, −1 where there are fewer; without `chosen`."""
    items, scores, _ = empty_lists(len(users), k)
    sizes, history = np.zeros(len(users), np.int64), (chosen.indptr, chosen.indices)
    for row in range(0, len(users), TILE[0]):
        for column in range(0, len(vectors), TILE[1]):
            tile = users[row : row + TILE[0]] @ vectors[column : column + TILE[1]].T  # (users, items) of the tile
            kernels.push_tile(tile, row, column, items, scores, sizes, *history)
    kernels.sort_heaps(items, scores, sizes)
    return items


def _index_search(index: Any, users: NDArray[np.float32], chosen: sparse.csr_matrix, k: int) -> NDArray[np.int32]:
    """`exact_search` by a FAISS index; as many more items as a user chose are retrieved, and dropped."""
    items = np.full((len(users), k), -1, np.int32)
    lengths, is_chosen = np.diff(chosen.indptr), np.zeros(index.ntotal, np.bool_)
    # Users with histories of like length together: one long history must not lengthen the lists of all.
    order = np.argsort(lengths, kind="stable")
    for rows in np.array_split(order, max(1, len(order) // 256)):
        retrieved = min(k + int(lengths[rows].max(initial=0)), index.ntotal)
        nearest = index.search(users[rows], retrieved)[1]
        _drop_chosen(nearest, rows, chosen.indptr, chosen.indices, is_chosen, items)
    return items


@kernels.jit
def _drop_chosen(nearest, rows, indptr, indices, is_chosen, items):  # type: ignore[no-untyped-def]
    """The first k of `nearest` (rows, retrieved) that a row did not choose, to `items[rows]`."""
    for position in range(len(rows)):
        row = rows[position]
        mine = indices[indptr[row] : indptr[row + 1]]
        for number in mine:
            is_chosen[number] = True
        size = 0
        for number in nearest[position]:
            if size == items.shape[1]:
                break
            if number >= 0 and not is_chosen[number]:
                items[row, size] = number
                size += 1
        for number in mine:
            is_chosen[number] = False
