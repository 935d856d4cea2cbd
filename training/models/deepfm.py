"""DeepFM (Guo et al. 2017): a factorisation machine and a deep network over the same embeddings."""

from collections.abc import Sequence

import torch
from torch import nn

from conf import Config
from training.settings import DeepFMSettings


class DeepFM(nn.Module):
    """logit = linear + pairwise products of field embeddings + a network over all of them."""

    def __init__(self, buckets: Sequence[int], num_dense: int, settings: DeepFMSettings) -> None:
        super().__init__()
        self.offsets: torch.Tensor
        self.register_buffer("offsets", torch.tensor([0, *buckets[:-1]]).cumsum(0))
        self.embedding = nn.Embedding(sum(buckets), settings.dim)
        self.linear = nn.Embedding(sum(buckets), 1)
        self.linear_dense = nn.Linear(num_dense, 1)
        nn.init.normal_(self.embedding.weight, std=0.01)
        nn.init.zeros_(self.linear.weight)
        layers: list[nn.Module] = []
        width = len(buckets) * settings.dim + num_dense
        for hidden in settings.hidden:
            layers += [nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(settings.dropout)]
            width = hidden
        self.deep = nn.Sequential(*layers, nn.Linear(width, 1))

    def forward(self, sparse: torch.Tensor, dense: torch.Tensor) -> torch.Tensor:
        ids = sparse + self.offsets  # (batch, fields)
        v = self.embedding(ids)  # (batch, fields, dim)
        linear = self.linear(ids).sum(dim=(1, 2)) + self.linear_dense(dense).squeeze(1)
        # Σ_{i<j} <v_i, v_j> = ½ (|Σ v|² − Σ |v|²)
        pairs = 0.5 * (v.sum(dim=1).square() - v.square().sum(dim=1)).sum(dim=1)
        deep = self.deep(torch.cat([v.flatten(1), dense], dim=1)).squeeze(1)
        logits: torch.Tensor = linear + pairs + deep
        return logits


def build(config: Config, buckets: Sequence[int], num_dense: int) -> nn.Module:
    return DeepFM(buckets, num_dense, config.get(DeepFMSettings))
