"""Layers that several models share. Shapes: B rows, F fields, D embedding length, N dense features, L list length."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from training.inputs.schema import Inputs
from training.net_settings import NetSettings


class Table(nn.Embedding):
    """`nn.Embedding`, whose gradients on CPUs are added up several times as fast by indexing (and as repeatably)."""

    def forward(self, ids: Tensor) -> Tensor:
        return self.weight[ids] if self.weight.device.type == "cpu" else super().forward(ids)


class Fields(nn.Module):
    """One table for the ids of all fields: a single look-up. (B, F) -> (B, F, D)."""

    def __init__(self, buckets: Sequence[int], dim: int, std: float = 0.01) -> None:
        super().__init__()
        self.offsets: Tensor
        self.register_buffer("offsets", torch.tensor([0, *buckets[:-1]], dtype=torch.int64).cumsum(0))
        self.table = Table(sum(buckets), dim)
        nn.init.normal_(self.table.weight, std=std)

    def forward(self, sparse: Tensor) -> Tensor:
        embedded: Tensor = self.table(sparse + self.offsets)
        return embedded


class Linear(nn.Module):
    """Σ w of the ids + w·dense + b: (B,)."""

    def __init__(self, buckets: Sequence[int], num_dense: int) -> None:
        super().__init__()
        self.ids = Fields(buckets, 1)
        nn.init.zeros_(self.ids.table.weight)
        self.dense = nn.Linear(num_dense, 1)

    def forward(self, sparse: Tensor, dense: Tensor) -> Tensor:
        logits: Tensor = self.ids(sparse).sum(dim=(1, 2)) + self.dense(dense).squeeze(1)
        return logits


def mlp(
    width: int, settings: NetSettings, out: int | None = None, hidden: Sequence[int] | None = None
) -> nn.Sequential:
    """Dense layers with ReLU; a last linear one of width `out`, when given. No dropout before a batch norm."""
    widths = [width, *(settings.hidden if hidden is None else hidden)]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers.append(nn.Linear(before, after))
        if settings.batch_norm:
            layers.append(nn.BatchNorm1d(after))
        layers.append(nn.ReLU())
        if settings.dropout and not settings.batch_norm:
            layers.append(nn.Dropout(settings.dropout))
    if out is not None:
        layers.append(nn.Linear(widths[-1], out))
    return nn.Sequential(*layers)


def last_width(width: int, settings: NetSettings) -> int:
    """Width of what `mlp` without `out` returns."""
    return settings.hidden[-1] if settings.hidden else width


def pairs(v: Tensor) -> Tensor:
    """Σ_{i<j} <v_i, v_j> = ½ (|Σ v|² − Σ |v|²): (B, F, D) -> (B,)."""
    return 0.5 * (v.sum(dim=1).square() - v.square().sum(dim=1)).sum(dim=1)


def flat(v: Tensor, dense: Tensor) -> Tensor:
    """Embeddings and numbers side by side: (B, F·D + N)."""
    return torch.cat([v.flatten(1), dense], dim=1)


def flat_width(inputs: Inputs, dim: int) -> int:
    """Width of `flat`."""
    return len(inputs.sparse) * dim + len(inputs.dense)


def mean_of_known(v: Tensor, ids: Tensor) -> Tensor:
    """Mean over the ids that are not padding: (B, L, D), (B, L) -> (B, D)."""
    mask = (ids > 0).unsqueeze(-1).to(v.dtype)
    return (v * mask).sum(1) / mask.sum(1).clamp(min=1.0)
