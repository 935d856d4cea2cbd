"""Two towers (Yi et al. 2019): a user's vector from their history, an item's from id, topic and author; nearest by
FAISS.

The user tower is the mean of the history's input vectors through a linear layer. Both train on pairs (history, an item
left out of it) by softmax over the items of the batch, corrected by the items' share among the pairs (logQ).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from recsys.recall.history import History, UserBatch
from recsys.recall.lists import TopItems
from recsys.recall.vectors import QUERIES, ItemVectors, build_vectors
from recsys.settings import RecallSettings

MASKED = -1e9  # logit of a pair that must not count as a negative


@dataclass(frozen=True)
class TwoTowerScorer:
    """Trained towers as arrays: the workers need no torch."""

    items: ItemVectors  # (items, dim) outputs of the item tower, of length 1
    inputs: NDArray[np.float32]  # (items, dim) what a history is averaged from
    layer: NDArray[np.float32]  # (dim, dim) of the user tower

    def top_items(self, batch: UserBatch, k: int) -> TopItems:
        """Items by cosine."""
        return self.items.top(user_vectors(batch, self.inputs, self.layer), batch, k)


def user_vectors(batch: UserBatch, inputs: NDArray[np.float32], layer: NDArray[np.float32]) -> NDArray[np.float32]:
    """(users, dim) outputs of the user tower, of length 1; the mean of a history is weighted by its decay."""
    weight = np.maximum(np.asarray(batch.recent.sum(axis=1)), 1e-9)
    means = np.asarray(batch.recent @ inputs / weight)
    # Row by row in one order: a matrix product rounds by the rows beside it.
    users = np.einsum("ui,ij->uj", means.astype(np.float64), layer.astype(np.float64))
    return np.asarray(users / np.maximum(np.linalg.norm(users, axis=1, keepdims=True), 1e-9), np.float32)


def fit(history: History, settings: RecallSettings) -> TwoTowerScorer:
    """Train on the driver with the histories of the `tower_users` users who were active last."""
    batch = history.newest_users(settings.tower_users)
    vectors, inputs, layer = train(batch.chosen, history.items, settings)
    queries = user_vectors(batch.take(np.arange(min(QUERIES, len(batch.users))), batch.users[:QUERIES]), inputs, layer)
    listed = np.arange(history.num_items)
    return TwoTowerScorer(build_vectors("two_tower", vectors, listed, queries, settings.exact_items), inputs, layer)


Towers = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]


def train(chosen: sparse.csr_matrix, items: pd.DataFrame, settings: RecallSettings) -> Towers:
    """Train the towers by Adam.

    Args:
        chosen: (users, items) ones.
        items: category and author, by item number.
        settings: the `tower_*` settings and the seed.

    Returns:
        Outputs of the item tower (items, dim), inputs of the user tower (items, dim), and its layer (dim, dim).
    """
    import torch
    from torch.nn import functional

    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    codes = [np.arange(len(items)), *[pd.factorize(items[name], sort=True)[0] + 1 for name in ("category", "author")]]
    tables = [torch.nn.Embedding(int(code.max(initial=0)) + 1, settings.tower_dim) for code in codes]
    for table in tables:
        torch.nn.init.normal_(table.weight, std=0.1)
    # From the identity: an untrained user vector is the mean of the history.
    layer = torch.nn.Linear(settings.tower_dim, settings.tower_dim, bias=False)
    torch.nn.init.eye_(layer.weight)
    inputs = torch.nn.Embedding(len(items), settings.tower_dim)
    torch.nn.init.normal_(inputs.weight, std=0.1)
    item_codes = [torch.from_numpy(code.astype(np.int64)) for code in codes]

    def item_tower(numbers: torch.Tensor) -> torch.Tensor:
        summed = sum(table(code[numbers]) for table, code in zip(tables, item_codes, strict=True))
        return functional.normalize(summed, dim=1)  # (batch, dim)

    modules = [*tables, layer, inputs]
    optimizer = torch.optim.Adam([w for module in modules for w in module.parameters()], lr=settings.tower_rate)
    log_share = torch.from_numpy(_log_shares(chosen))  # (items,)
    for users, left_out in _batches(chosen, settings, rng):
        histories = chosen[users]
        bags = torch.from_numpy(histories.indices.astype(np.int64))
        offsets = torch.from_numpy(histories.indptr[:-1].astype(np.int64))
        target = torch.from_numpy(left_out.astype(np.int64))  # (batch,)
        # The item that is to be predicted is taken out of its own history.
        total = functional.embedding_bag(bags, inputs.weight, offsets, mode="sum") - inputs(target)
        mean = total / torch.from_numpy((np.diff(histories.indptr) - 1).astype(np.float32))[:, None]
        logits = functional.normalize(layer(mean), dim=1) @ item_tower(target).T / settings.tower_temperature
        # (batch, batch). An item that is in the batch twice must not be its own negative.
        is_same = (target[:, None] == target[None]) & ~torch.eye(len(users), dtype=torch.bool)
        logits = (logits - log_share[target][None]).masked_fill(is_same, MASKED)
        loss = functional.cross_entropy(logits, torch.arange(len(users)))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    # An inner product with these is the cosine.
    with torch.no_grad():
        vectors = item_tower(torch.arange(len(items))).numpy()
    return vectors, inputs.weight.detach().numpy(), layer.weight.detach().numpy().T.copy()


def _log_shares(chosen: sparse.csr_matrix) -> NDArray[np.float32]:
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
    for _ in range(settings.tower_epochs):
        order = rng.permutation(has_rest)
        for start in range(0, len(order), settings.tower_batch):
            pairs = order[start : start + settings.tower_batch]
            yield users[pairs], items[pairs]
