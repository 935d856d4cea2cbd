"""AutoInt (Song et al. 2019): fields attend to one another; numbers are fields, too (value × embedding)."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from conf import Config
from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.layers import Fields


class Attention(nn.Module):
    """Multi-head self-attention with a residual: (B, F, in) -> (B, F, out)."""

    def __init__(self, width: int, out: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, out, bias=False) for _ in range(3))
        self.residual = nn.Linear(width, out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            part(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        attended = functional.scaled_dot_product_attention(q, k, v)  # (B, heads, F, out / heads)
        return torch.relu(attended.transpose(1, 2).flatten(2) + self.residual(x))


class AutoInt(nn.Module):
    def __init__(self, inputs: Inputs, settings: NetSettings) -> None:
        super().__init__()
        self.embedding = Fields(inputs.buckets, settings.dim)
        self.numbers = nn.Parameter(torch.randn(len(inputs.dense), settings.dim) * 0.01)
        widths = [settings.dim] + [settings.attention_dim] * settings.cross_layers
        self.layers = nn.ModuleList(Attention(before, after, settings.heads) for before, after in pairwise(widths))
        self.out = nn.Linear((len(inputs.sparse) + len(inputs.dense)) * widths[-1], 1)

    def forward(self, sparse: Tensor, dense: Tensor) -> Tensor:
        x = torch.cat([self.embedding(sparse), dense.unsqueeze(2) * self.numbers], dim=1)
        for layer in self.layers:
            x = layer(x)
        logits: Tensor = self.out(x.flatten(1)).squeeze(1)
        return logits


def build(config: Config, inputs: Inputs) -> nn.Module:
    return AutoInt(inputs, config.get(NetSettings))
