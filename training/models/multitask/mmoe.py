"""MMoE (Ma et al. 2018): each task mixes shared experts by a gate of its own."""

import torch
from torch import Tensor, nn

from conf import Config
from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.layers import Fields, flat, flat_width, last_width, mlp


class MMoE(nn.Module):
    def __init__(self, inputs: Inputs, settings: NetSettings) -> None:
        super().__init__()
        width = flat_width(inputs, settings.dim)
        self.embedding = Fields(inputs.buckets, settings.dim)
        self.experts = nn.ModuleList(mlp(width, settings) for _ in range(settings.experts))
        self.gates = nn.ModuleList(nn.Linear(width, settings.experts) for _ in inputs.labels)
        self.heads = nn.ModuleList(nn.Linear(last_width(width, settings), 1) for _ in inputs.labels)

    def forward(self, sparse: Tensor, dense: Tensor) -> Tensor:
        x = flat(self.embedding(sparse), dense)
        expert_outputs = torch.stack([expert(x) for expert in self.experts], dim=1)  # (B, experts, width)
        logits = []
        for gate, head in zip(self.gates, self.heads, strict=True):
            share = torch.softmax(gate(x), dim=1).unsqueeze(2)
            logits.append(head((share * expert_outputs).sum(dim=1)))
        return torch.cat(logits, dim=1)


def build(config: Config, inputs: Inputs) -> nn.Module:
    return MMoE(inputs, config.get(NetSettings))
