"""Shared bottom (Caruana 1997): one network for all tasks, a small head for each."""

import torch
from torch import Tensor, nn

from conf import Config
from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.layers import Fields, flat, flat_width, last_width, mlp


class SharedBottom(nn.Module):
    def __init__(self, inputs: Inputs, settings: NetSettings) -> None:
        super().__init__()
        width = flat_width(inputs, settings.dim)
        self.embedding = Fields(inputs.buckets, settings.dim)
        self.bottom = mlp(width, settings)
        self.heads = nn.ModuleList(nn.Linear(last_width(width, settings), 1) for _ in inputs.labels)

    def forward(self, sparse: Tensor, dense: Tensor) -> Tensor:
        x = self.bottom(flat(self.embedding(sparse), dense))
        return torch.cat([head(x) for head in self.heads], dim=1)


def build(config: Config, inputs: Inputs) -> nn.Module:
    return SharedBottom(inputs, config.get(NetSettings))
