"""Two towers (Yi et al. 2019): a user's vector from their history, an item's from id, topic and author; nearest by
FAISS.

The user tower is the mean of the vectors of what they chose, through a linear layer. Both learn from pairs (history, an
item held out of it) by softmax over the items of the batch, corrected by the items' share among the pairs (logQ).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import functions as F
from scipy import sparse

from recsys.recall.history import Batch, History, batch_of
from recsys.settings import RecallSettings


@dataclass(frozen=True)
class TwoTower:
    """`items` (items, dim) of length 1, `inputs` (items, dim) what a history is averaged from, `layer` (dim, dim)."""

    items: NDArray[np.float32]
    inputs: NDArray[np.float32]
    layer: NDArray[np.float32]
    nearest: int

    def score(self, batch: Batch) -> NDArray[np.float32]:
        """Cosine to the `nearest` items; −inf for others."""
        import faiss

        length = np.maximum(np.asarray(batch.recent.sum(axis=1)), 1e-9)
        users = _unit(np.asarray(batch.recent @ self.inputs / length) @ self.layer)
        depth = min(len(self.items), self.nearest + int(np.diff(batch.chosen.indptr).max(initial=0)))
        similar, numbers = _index(faiss, self.items).search(np.ascontiguousarray(users, np.float32), depth)
        scores = np.full((len(users), len(self.items)), -np.inf, np.float32)
        np.put_along_axis(scores, np.maximum(numbers, 0), similar, axis=1)
        return batch.nothing_for_cold(scores)


def _index(faiss: Any, items: NDArray[np.float32]) -> Any:
    """Exact up to 50,000 items, a graph of neighbours beyond."""
    if len(items) <= 50_000:
        index = faiss.IndexFlatIP(items.shape[1])
    else:
        index = faiss.IndexHNSWFlat(items.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    index.add(items)
    return index


def _unit(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9), np.float32)


def fit(history: History, settings: RecallSettings) -> TwoTower:
    """Train on the driver with the histories of up to `tower_users` users."""
    newest = history.histories.orderBy(F.desc("last"), "user_id").limit(settings.tower_users).toPandas()
    batch = batch_of(newest, history.num_items, settings.history_half_life_days)
    return train(batch.chosen, history.items, settings)


def train(chosen: sparse.csr_matrix, items: pd.DataFrame, settings: RecallSettings) -> TwoTower:
    """Learn the towers from (users, items) ones."""
    import torch
    from torch.nn import functional

    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    codes = [np.arange(len(items)), *[pd.factorize(items[name], sort=True)[0] + 1 for name in ("category", "author")]]
    tables = [torch.nn.Embedding(int(code.max(initial=0)) + 1, settings.tower_dim) for code in codes]
    for table in tables:
        torch.nn.init.normal_(table.weight, std=0.1)
    layer = torch.nn.Linear(settings.tower_dim, settings.tower_dim, bias=False)
    torch.nn.init.eye_(layer.weight)
    inputs = torch.nn.Embedding(len(items), settings.tower_dim)
    torch.nn.init.normal_(inputs.weight, std=0.1)
    numbers = [torch.from_numpy(code.astype(np.int64)) for code in codes]

    def item_vectors(which: torch.Tensor) -> torch.Tensor:
        summed = sum(table(number[which]) for table, number in zip(tables, numbers, strict=True))
        return functional.normalize(summed, dim=1)

    parts = [*tables, layer, inputs]
    optimizer = torch.optim.Adam([w for part in parts for w in part.parameters()], lr=settings.tower_rate)
    users, targets = chosen.nonzero()
    share = np.maximum(np.bincount(targets, minlength=len(items)), 1) / max(len(targets), 1)
    log_share = torch.from_numpy(np.log(share).astype(np.float32))
    lengths = np.diff(chosen.indptr)
    usable = np.flatnonzero(lengths[users] > 1)
    for _ in range(settings.tower_epochs):
        order = rng.permutation(usable)
        for start in range(0, len(order), settings.tower_batch):
            rows = order[start : start + settings.tower_batch]
            histories = chosen[users[rows]]
            bags = torch.from_numpy(histories.indices.astype(np.int64))
            offsets = torch.from_numpy(histories.indptr[:-1].astype(np.int64))
            target = torch.from_numpy(targets[rows].astype(np.int64))
            total = functional.embedding_bag(bags, inputs.weight, offsets, mode="sum") - inputs(target)
            mean = total / torch.from_numpy((lengths[users[rows]] - 1).astype(np.float32))[:, None]
            logits = functional.normalize(layer(mean), dim=1) @ item_vectors(target).T / settings.tower_temperature
            # An item that is in the batch twice must not be its own negative.
            same = (target[:, None] == target[None]) & ~torch.eye(len(rows), dtype=torch.bool)
            logits = (logits - log_share[target][None]).masked_fill(same, -1e9)
            loss = functional.cross_entropy(logits, torch.arange(len(rows)))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    with torch.no_grad():
        vectors = item_vectors(torch.arange(len(items))).numpy()
    return TwoTower(
        vectors, inputs.weight.detach().numpy(), layer.weight.detach().numpy().T.copy(), settings.tower_nearest
    )
