"""PLE (Tang et al. 2020), one level (CGC): each task mixes experts of its own with those of all."""

from typing import Any

import torch
from torch import Tensor, nn

from conf import Config
from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.layers import Fields, flat, flat_width, last_width, mlp


class PLE(nn.Module):
    def __init__(self, inputs: Inputs, settings: NetSettings) -> None:
        super().__init__()
        width = flat_width(inputs, settings.dim)
        self.embedding = Fields(inputs.buckets, settings.dim)
        self.shared = nn.ModuleList(mlp(width, settings) for _ in range(settings.experts))
        self.own = nn.ModuleList(
            nn.ModuleList(mlp(width, settings) for _ in range(settings.experts)) for _ in inputs.labels
        )
        self.gates = nn.ModuleList(nn.Linear(width, 2 * settings.experts) for _ in inputs.labels)
        self.heads = nn.ModuleList(nn.Linear(last_width(width, settings), 1) for _ in inputs.labels)

    def forward(self, sparse: Tensor, dense: Tensor) -> Tensor:
        x = flat(self.embedding(sparse), dense)
        shared = [expert(x) for expert in self.shared]
        logits = []
        own: Any = self.own
        for experts, gate, head in zip(own, self.gates, self.heads, strict=True):
            expert_outputs = torch.stack([*shared, *(expert(x) for expert in experts)], dim=1)
            share = torch.softmax(gate(x), dim=1).unsqueeze(2)
            logits.append(head((share * expert_outputs).sum(dim=1)))
        return torch.cat(logits, dim=1)


def build(config: Config, inputs: Inputs) -> nn.Module:
    return PLE(inputs, config.get(NetSettings))
