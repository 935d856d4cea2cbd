"""Shared bottom (Caruana 1997): one network for all tasks, a linear head for each."""

import torch
from torch import Tensor, nn

from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.layers import FieldEmbedding, concat_features, concat_width, mlp, mlp_width


class SharedBottom(nn.Module):
    """logit_k = h_k·f(x), f being shared by the tasks k."""

    def __init__(self, inputs: Inputs, settings: NetSettings) -> None:
        super().__init__()
        width = concat_width(inputs, settings.dim)
        self.embedding = FieldEmbedding(inputs, settings.dim, settings.embedding_std)
        self.bottom = mlp(width, settings)
        self.heads = nn.ModuleList(nn.Linear(mlp_width(width, settings), 1) for _ in inputs.labels)

    def forward(self, sparse: Tensor, dense: Tensor) -> Tensor:
        """(B, F) ids, (B, N) numbers -> (B, labels) logits."""
        x = concat_features(self.embedding(sparse), dense)  # (B, F·D + N)
        shared = self.bottom(x)  # (B, width)
        return torch.cat([head(shared) for head in self.heads], dim=1)
