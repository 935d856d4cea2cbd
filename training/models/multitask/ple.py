"""PLE (Tang et al. 2020) with one extraction level, which is CGC: tasks mix experts of their own with shared ones."""

from typing import Any

import torch
from torch import Tensor, nn

from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.layers import FieldEmbedding, concat_features, concat_width, mlp, mlp_width


class PLE(nn.Module):
    """logit_k = h_k·Σ_i g^k(x)_i f_i(x) over the shared experts and those of task k."""

    def __init__(self, inputs: Inputs, settings: NetSettings) -> None:
        super().__init__()
        width = concat_width(inputs, settings.dim)
        self.embedding = FieldEmbedding(inputs, settings.dim, settings.embedding_std)
        self.shared = nn.ModuleList(mlp(width, settings) for _ in range(settings.experts))
        self.own = nn.ModuleList(
            nn.ModuleList(mlp(width, settings) for _ in range(settings.experts)) for _ in inputs.labels
        )
        self.gates = nn.ModuleList(nn.Linear(width, 2 * settings.experts) for _ in inputs.labels)
        self.heads = nn.ModuleList(nn.Linear(mlp_width(width, settings), 1) for _ in inputs.labels)

    def forward(self, sparse: Tensor, dense: Tensor) -> Tensor:
        """(B, F) ids, (B, N) numbers -> (B, labels) logits."""
        x = concat_features(self.embedding(sparse), dense)  # (B, F·D + N)
        shared = [expert(x) for expert in self.shared]
        task_experts: Any = self.own  # mypy takes a list of lists of modules for a list of modules
        logits = []
        for own, gate, head in zip(task_experts, self.gates, self.heads, strict=True):
            experts = torch.stack([*shared, *(expert(x) for expert in own)], dim=1)  # (B, 2 · experts, width)
            shares = torch.softmax(gate(x), dim=1).unsqueeze(2)  # (B, 2 · experts, 1)
            logits.append(head((shares * experts).sum(dim=1)))  # (B, 1)
        return torch.cat(logits, dim=1)
