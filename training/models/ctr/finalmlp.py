"""FinalMLP (Mao et al. 2023): two networks over differently gated features, joined by a bilinear product."""

import torch
from torch import Tensor, nn

from conf import Config
from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.layers import Fields, flat, flat_width, last_width, mlp


class Fusion(nn.Module):
    """b + w₁·x + w₂·y + Σ_heads x_h W_h y_h: (B, width), (B, width) -> (B,)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads if width % heads == 0 else 1
        part = width // self.heads
        self.x, self.y = nn.Linear(width, 1), nn.Linear(width, 1, bias=False)
        self.product = nn.Parameter(torch.randn(self.heads, part, part) * 0.01)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        a, b = (part.view(-1, self.heads, part.shape[1] // self.heads) for part in (x, y))  # (B, heads, part)
        crossed = torch.einsum("bhi,hij,bhj->b", a, self.product, b)
        logits: Tensor = self.x(x).squeeze(1) + self.y(y).squeeze(1) + crossed
        return logits


class FinalMLP(nn.Module):
    """One gate sees the user's fields, the other the item's: the streams look at different features."""

    def __init__(self, inputs: Inputs, settings: NetSettings) -> None:
        super().__init__()
        width = flat_width(inputs, settings.dim)
        self.embedding = Fields(inputs.buckets, settings.dim)
        self.sides = (list(inputs.user_columns), list(inputs.item_columns))
        self.gates = nn.ModuleList(nn.Linear(max(len(side), 1) * settings.dim, width) for side in self.sides)
        self.streams = nn.ModuleList(mlp(width, settings) for _ in self.sides)
        self.fusion = Fusion(last_width(width, settings), settings.heads)

    def forward(self, sparse: Tensor, dense: Tensor) -> Tensor:
        v = self.embedding(sparse)
        x = flat(v, dense)
        streams = []
        for side, gate, stream in zip(self.sides, self.gates, self.streams, strict=True):
            context = v[:, side].flatten(1) if side else v[:, 0] * 0
            streams.append(stream(x * 2 * torch.sigmoid(gate(context))))
        logits: Tensor = self.fusion(*streams)
        return logits


def build(config: Config, inputs: Inputs) -> nn.Module:
    return FinalMLP(inputs, config.get(NetSettings))
