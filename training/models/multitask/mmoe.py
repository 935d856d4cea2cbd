"""MMoE (Ma et al. 2018): each task mixes shared experts by a gate of its own."""

import torch
from torch import Tensor, nn

from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.layers import FieldEmbedding, concat_features, concat_width, mlp, mlp_width


class MMoE(nn.Module):
    """logit_k = h_k·Σ_i g^k(x)_i f_i(x), with gates g^k(x) = softmax(W_k x)."""

    def __init__(self, inputs: Inputs, settings: NetSettings) -> None:
        super().__init__()
        width = concat_width(inputs, settings.dim)
        self.embedding = FieldEmbedding(inputs, settings.dim, settings.embedding_std)
        self.experts = nn.ModuleList(mlp(width, settings) for _ in range(settings.experts))
        self.gates = nn.ModuleList(nn.Linear(width, settings.experts) for _ in inputs.labels)
        self.heads = nn.ModuleList(nn.Linear(mlp_width(width, settings), 1) for _ in inputs.labels)

    def forward(self, sparse: Tensor, dense: Tensor) -> Tensor:
        """(B, F) ids, (B, N) numbers -> (B, labels) logits."""
        x = concat_features(self.embedding(sparse), dense)  # (B, F·D + N)
        experts = torch.stack([expert(x) for expert in self.experts], dim=1)  # (B, experts, width)
        logits = []
        for gate, head in zip(self.gates, self.heads, strict=True):
            shares = torch.softmax(gate(x), dim=1).unsqueeze(2)  # (B, experts, 1)
            logits.append(head((shares * experts).sum(dim=1)))  # (B, 1)
        return torch.cat(logits, dim=1)
