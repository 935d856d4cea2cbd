"""Two towers (Yi et al. 2019): a user's vector from their history, an item's from id, topic and author; nearest by
inner product.

The user tower is the mean of the history's input vectors through a linear layer. Both train on pairs (history, an item
left out of it) by softmax over the items of the batch, corrected by the items' share among the pairs (logQ). NumPy and
gradients by hand: a step has matrices of 512 × 512 and 512 × 32, for which a framework's overhead is most of the time.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from recsys.recall.history import History, UserBatch
from recsys.recall.kernels import jit
from recsys.recall.lists import TopItems
from recsys.recall.vectors import QUERIES, ItemVectors, build_vectors
from recsys.settings import RecallSettings

log = logging.getLogger(__name__)

BETAS, EPSILON = (0.9, 0.999), 1e-8  # of Adam (Kingma and Ba 2015)

Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class TwoTowerScorer:
    """Trained towers as arrays."""

    items: ItemVectors  # (items, dim) outputs of the item tower, of length 1
    inputs: Matrix  # (items, dim) what a history is averaged from
    layer: Matrix  # (dim, dim) of the user tower

    def top_items(self, batch: UserBatch, k: int) -> TopItems:
        """Items by cosine."""
        users = user_vectors(batch, self.inputs, self.layer)  # (users, dim)
        return self.items.top(users, batch, k)


def user_vectors(batch: UserBatch, inputs: Matrix, layer: Matrix) -> Matrix:
    """(users, dim) outputs of the user tower, of length 1; the mean of a history is weighted by its decay."""
    weight = np.maximum(np.asarray(batch.recent.sum(axis=1)), 1e-9)
    means = np.asarray(batch.recent @ inputs / weight)
    # Row by row in one order: a matrix product rounds by the rows beside it.
    users = np.einsum("ui,ij->uj", means.astype(np.float64), layer.astype(np.float64))
    return np.asarray(users / np.maximum(np.linalg.norm(users, axis=1, keepdims=True), 1e-9), np.float32)


def fit(history: History, settings: RecallSettings) -> TwoTowerScorer:
    """Train on the driver with the histories of the `tower_users` users who were active last."""
    batch = history.newest_users(settings.tower_users, "two_tower (recall.tower_users)")
    vectors, inputs, layer = train(batch.chosen, history.items, settings)
    queries = user_vectors(batch.take(np.arange(min(QUERIES, len(batch.users))), batch.users[:QUERIES]), inputs, layer)
    listed = np.arange(history.num_items)
    return TwoTowerScorer(build_vectors("two_tower", vectors, listed, queries, settings.exact_items), inputs, layer)


class _Table:
    """Vectors that Adam trains, row by row: a row without a gradient in a step stays as it is."""

    def __init__(self, vectors: NDArray[np.floating]) -> None:
        self.vectors = vectors.astype(np.float32)
        self._mean, self._square = np.zeros_like(self.vectors), np.zeros_like(self.vectors)
        self._gradient = np.zeros_like(self.vectors)

    def step(self, rows: NDArray[np.integer], gradients: Matrix, rate: float, number: int) -> None:
        """Step number `number`, from 1, by `gradients` (rows, dim), which are summed where a row occurs repeatedly."""
        scale = rate * np.sqrt(1 - BETAS[1] ** number) / (1 - BETAS[0] ** number)
        _adam(rows, gradients, self._gradient, self.vectors, self._mean, self._square, scale)


def train(chosen: sparse.csr_matrix, items: pd.DataFrame, settings: RecallSettings) -> tuple[Matrix, Matrix, Matrix]:
    """Train the towers.

    Args:
        chosen: (users, items) ones.
        items: category and author, by item number.
        settings: the `tower_*` settings and the seed.

    Returns:
        Outputs of the item tower (items, dim), inputs of the user tower (items, dim), and its layer (dim, dim).
    """
    rng = np.random.default_rng(settings.seed)
    codes = [np.arange(len(items)), *[pd.factorize(items[name], sort=True)[0] + 1 for name in ("category", "author")]]
    shape = (len(items), settings.tower_dim)
    tables = [_Table(0.1 * rng.standard_normal((int(code.max(initial=0)) + 1, shape[1]))) for code in codes]
    inputs = _Table(0.1 * rng.standard_normal(shape))
    # From the identity: an untrained user vector is the mean of the history.
    layer = _Table(np.eye(shape[1]))
    all_rows = np.arange(shape[1])
    log_share = _log_shares(chosen)  # (items,)
    lengths = np.diff(chosen.indptr)
    for number, (users, targets) in enumerate(_batches(chosen, settings, rng), 1):
        histories = chosen[users]
        # The item that is to be predicted is taken out of its own history.
        rest = (lengths[users] - 1).astype(np.float32)[:, None]
        mean = (histories @ inputs.vectors - inputs.vectors[targets]) / rest
        hidden = mean @ layer.vectors
        summed = sum(table.vectors[code[targets]] for table, code in zip(tables, codes, strict=True))
        hidden_gradient, summed_gradient = _gradients(hidden, summed, targets, log_share, settings.tower_temperature)
        mean_gradient = hidden_gradient @ layer.vectors.T / rest
        # Of each history's entries, and of the left-out item, whose vector was subtracted.
        owners = np.repeat(np.arange(len(users)), lengths[users])
        rows = np.concatenate([histories.indices, targets])
        gradients = np.concatenate([mean_gradient[owners], -mean_gradient])
        rate = settings.tower_rate
        inputs.step(rows, gradients, rate, number)
        layer.step(all_rows, mean.T @ hidden_gradient, rate, number)
        for table, code in zip(tables, codes, strict=True):
            table.step(code[targets], summed_gradient, rate, number)
    outputs = sum(table.vectors[code] for table, code in zip(tables, codes, strict=True))
    return _normalised(np.asarray(outputs, np.float32)), inputs.vectors, layer.vectors


def _gradients(
    hidden: Matrix, summed: Matrix, targets: NDArray[np.integer], log_share: Matrix, temperature: float
) -> tuple[Matrix, Matrix]:
    """Gradients of the mean cross-entropy by the towers' outputs before they are normalised; both (batch, dim).

    Args:
        hidden: (batch, dim) of the users.
        summed: (batch, dim) of the items that they are paired with.
        targets: (batch,) numbers of these items.
        log_share: (items,) log of each item's share of the pairs.
        temperature: of the softmax over cosines.
    """
    users, items = _normalised(hidden), _normalised(summed)
    logits = users @ items.T / np.float32(temperature) - log_share[targets]  # (batch, batch)
    # An item that is in the batch twice must not be its own negative.
    is_same = targets[:, None] == targets
    np.fill_diagonal(is_same, False)
    logits[is_same] = -np.inf
    logits -= logits.max(axis=1, keepdims=True)
    share = np.exp(logits, out=logits)
    share /= share.sum(axis=1, keepdims=True)
    share[np.diag_indices_from(share)] -= 1
    share /= np.float32(temperature * len(targets))
    return _through_norm(share @ items, users, hidden), _through_norm(share.T @ users, items, summed)


def _normalised(rows: Matrix) -> Matrix:
    return np.asarray(rows / _norms(rows))


def _norms(rows: Matrix) -> Matrix:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)  # (rows, 1)
    # A vector of zeros stays one: it is divided by this instead of by 0.
    return np.asarray(np.maximum(lengths, np.float32(1e-12)))


def _through_norm(gradient: Matrix, normalised: Matrix, rows: Matrix) -> Matrix:
    """The gradient by `rows` from that by their normalised vectors: without what would only change the length."""
    along = (gradient * normalised).sum(axis=1, keepdims=True)
    return np.asarray((gradient - along * normalised) / _norms(rows))


@jit
def _adam(rows, gradients, total, vectors, mean, square, scale):  # type: ignore[no-untyped-def]
    """One step of Adam on the rows that occur in `rows`; `total` is zeros before and after."""
    for position in range(len(rows)):
        total[rows[position]] += gradients[position]
    for row in rows:
        moved = False
        for column in range(vectors.shape[1]):
            gradient = total[row, column]
            moved = moved or gradient != 0
        if not moved:  # a repetition of a row that has moved already
            continue
        for column in range(vectors.shape[1]):
            gradient = total[row, column]
            total[row, column] = 0
            mean[row, column] = BETAS[0] * mean[row, column] + (1 - BETAS[0]) * gradient
            square[row, column] = BETAS[1] * square[row, column] + (1 - BETAS[1]) * gradient * gradient
            vectors[row, column] -= scale * mean[row, column] / (np.sqrt(square[row, column]) + EPSILON)


def _log_shares(chosen: sparse.csr_matrix) -> Matrix:
    """(items,) log of each item's share of the positives: how often it is a negative in a batch."""
    targets = chosen.nonzero()[1]
    share = np.maximum(np.bincount(targets, minlength=chosen.shape[1]), 1) / max(len(targets), 1)
    return np.log(share).astype(np.float32)


def _batches(
    chosen: sparse.csr_matrix, settings: RecallSettings, rng: np.random.Generator
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Shuffled (users, items) of each epoch; one item alone leaves no history, so such users are left out."""
    users, items = chosen.nonzero()
    has_rest = np.flatnonzero(np.diff(chosen.indptr)[users] > 1)
    if len(has_rest) > settings.tower_pairs:
        log.info("two_tower: %d of %d pairs an epoch (recall.tower_pairs)", settings.tower_pairs, len(has_rest))
    for _ in range(settings.tower_epochs):
        order = rng.permutation(has_rest)[: settings.tower_pairs]
        for start in range(0, len(order), settings.tower_batch):
            pairs = order[start : start + settings.tower_batch]
            yield users[pairs], items[pairs]
