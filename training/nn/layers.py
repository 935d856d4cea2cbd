"""Layers that several models share. Shapes: B rows, F fields, D embedding length, N dense features, L list length."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.sharded_embedding import ShardedEmbedding, is_sharding


class IndexedEmbedding(nn.Embedding):
    """`nn.Embedding`, looked up by indexing on CPUs: its gradients are accumulated several times as fast there."""

    def forward(self, ids: Tensor) -> Tensor:
        # Indexing's backward is `index_put_` with accumulation, as repeatable as the embedding's own.
        is_indexed = self.weight.device.type == "cpu" and not self.sparse
        return self.weight[ids] if is_indexed else super().forward(ids)


def new_table(num_rows: int, dim: int) -> IndexedEmbedding | ShardedEmbedding:
    """A table of embeddings, or this rank's shard of it within `sharded_tables`."""
    return ShardedEmbedding(num_rows, dim) if is_sharding() else IndexedEmbedding(num_rows, dim)


TABLES = (nn.Embedding, nn.EmbeddingBag, ShardedEmbedding)
"""Modules whose `weight` is a table of embeddings."""


def fill_weight(module: nn.Module, init: Callable[[Tensor], Any]) -> None:
    """Fill a module's `weight` by a function that fills tensors in place; a shard as the whole table would be."""
    if isinstance(module, ShardedEmbedding):
        module.fill(init)
    else:
        init(module.weight)  # type: ignore[arg-type]


class FieldEmbedding(nn.Module):
    """Embeddings of all fields in one table, each field at an offset: one look-up. (B, F) ids -> (B, F, D).

    `fields` is the number of ids of each field, or `Inputs`, whose lists are then fields, too: they follow in `sparse`,
    each in as many columns as it is long, and become the mean of the embeddings of their ids, zeros for an empty list.
    Weights start from N(0, std²).
    """

    def __init__(self, fields: Inputs | Sequence[int], dim: int, std: float = 0.01) -> None:
        super().__init__()
        buckets = (*fields.buckets, *fields.sequence_buckets) if isinstance(fields, Inputs) else tuple(fields)
        self.lengths = fields.sequence_lengths if isinstance(fields, Inputs) else ()
        num_single = len(buckets) - len(self.lengths)
        columns = torch.tensor([*[1] * num_single, *self.lengths], dtype=torch.int64)
        self.offsets: Tensor  # (columns,)
        offsets = torch.tensor([0, *buckets[:-1]], dtype=torch.int64).cumsum(0)
        self.register_buffer("offsets", offsets.repeat_interleave(columns))
        self.table = new_table(sum(buckets), dim)
        fill_weight(self.table, partial(nn.init.normal_, std=std))

    def forward(self, sparse: Tensor) -> Tensor:
        embedded: Tensor = self.table(sparse + self.offsets)  # (B, columns, D)
        if not self.lengths:
            return embedded
        sizes = [sparse.shape[1] - sum(self.lengths), *self.lengths]
        (_, *ids), (single, *lists) = torch.split(sparse, sizes, 1), torch.split(embedded, sizes, 1)
        means = [masked_mean(v, of).unsqueeze(1) for v, of in zip(lists, ids, strict=True)]  # (B, 1, D) each
        return torch.cat([single, *means], 1)

    def embed(self, ids: Tensor, field: int) -> Tensor:
        """Embeddings of ids of one field, e.g. a history of items: (B, L) -> (B, L, D)."""
        embedded: Tensor = self.table(ids + self.offsets[field])
        return embedded


def use_sparse_gradients(net: nn.Module) -> None:
    """Have every `FieldEmbedding` in `net` compute gradients of the rows of a batch only."""
    for module in net.modules():
        if isinstance(module, FieldEmbedding):
            module.table.sparse = True


class LinearTerm(nn.Module):
    """The first-order term of FM and its descendants, b + Σ_f w[id_f] + w·dense: (B, F), (B, N) -> (B,)."""

    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        self.ids = FieldEmbedding(inputs, 1)
        nn.init.zeros_(self.ids.table.weight)  # a logistic regression is convex: 0 is as good a start as any
        self.dense = nn.Linear(len(inputs.dense), 1)

    def forward(self, sparse: Tensor, dense: Tensor) -> Tensor:
        logits: Tensor = self.ids(sparse).sum(dim=(1, 2)) + self.dense(dense).squeeze(1)
        return logits


def mlp(
    width: int, settings: NetSettings, out: int | None = None, hidden: Sequence[int] | None = None
) -> nn.Sequential:
    """Dense layers with ReLU: (B, width) -> (B, out), or the last hidden layer's outputs where `out` is None.

    Args:
        width: number of inputs.
        settings: hidden widths, dropout and batch norm of `net.*`.
        out: width of a last layer without activation.
        hidden: widths of the hidden layers, in place of `net.hidden`.
    """
    widths = [width, *(settings.hidden if hidden is None else hidden)]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers.append(nn.Linear(before, after))
        if settings.batch_norm:
            layers.append(nn.BatchNorm1d(after))
        layers.append(nn.ReLU())
        # Dropout before a batch norm shifts the variance that the norm has learned (Li et al. 2019).
        if settings.dropout and not settings.batch_norm:
            layers.append(nn.Dropout(settings.dropout))
    if out is not None:
        layers.append(nn.Linear(widths[-1], out))
    return nn.Sequential(*layers)


def mlp_width(width: int, settings: NetSettings) -> int:
    """Number of outputs of `mlp(width, settings)` without `out`."""
    return settings.hidden[-1] if settings.hidden else width


def pairwise_products(v: Tensor) -> Tensor:
    """The second-order term of FM, Σ_{i<j} <v_i, v_j>: (B, F, D) -> (B,).

    As ½ (|Σ_i v_i|² − Σ_i |v_i|²), which costs O(F·D) instead of O(F²·D) (Rendle 2010, lemma 3.1).
    """
    square_of_sum = v.sum(dim=1).square()  # (B, D)
    sum_of_squares = v.square().sum(dim=1)  # (B, D)
    return 0.5 * (square_of_sum - sum_of_squares).sum(dim=1)


def concat_features(v: Tensor, dense: Tensor) -> Tensor:
    """Embeddings and numbers side by side, as deep networks read them: (B, F, D), (B, N) -> (B, F·D + N)."""
    return torch.cat([v.flatten(1), dense], dim=1)


def concat_width(inputs: Inputs, dim: int) -> int:
    """Number of columns of `concat_features`, F·D + N."""
    return inputs.num_fields * dim + len(inputs.dense)


def masked_mean(v: Tensor, ids: Tensor) -> Tensor:
    """Mean over the ids that are not padding (0), zeros for an empty list: (B, L, D), (B, L) -> (B, D)."""
    mask = (ids > 0).unsqueeze(-1).to(v.dtype)  # (B, L, 1)
    return (v * mask).sum(1) / mask.sum(1).clamp(min=1.0)
