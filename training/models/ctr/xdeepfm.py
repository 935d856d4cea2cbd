"""xDeepFM (Lian et al. 2018): a compressed interaction network beside a deep and a linear part."""

import torch
from torch import Tensor, nn

from conf import Config
from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.layers import Fields, Linear, flat, flat_width, mlp


class CIN(nn.Module):
    """Map h of layer k is Σ_ij W_hij (x^{k−1}_i ⊙ x⁰_j): (B, F, D) -> (B, layers × maps)."""

    def __init__(self, fields: int, layers: int, maps: int) -> None:
        super().__init__()
        widths = [fields] + [maps] * layers
        self.weights = nn.ModuleList(nn.Conv1d(before * fields, maps, 1) for before in widths[:-1])

    def forward(self, first: Tensor) -> Tensor:
        x, pooled = first, []
        for weight in self.weights:
            products = torch.einsum("bid,bjd->bijd", x, first).flatten(1, 2)  # (B, maps × F, D)
            x = torch.relu(weight(products))
            pooled.append(x.sum(dim=2))
        return torch.cat(pooled, dim=1)


class XDeepFM(nn.Module):
    def __init__(self, inputs: Inputs, settings: NetSettings) -> None:
        super().__init__()
        self.linear = Linear(inputs.buckets, len(inputs.dense))
        self.embedding = Fields(inputs.buckets, settings.dim)
        self.cin = CIN(len(inputs.sparse), settings.cross_layers, settings.cross_maps)
        self.cin_out = nn.Linear(settings.cross_layers * settings.cross_maps, 1)
        self.deep = mlp(flat_width(inputs, settings.dim), settings, 1)

    def forward(self, sparse: Tensor, dense: Tensor) -> Tensor:
        v = self.embedding(sparse)
        crossed = self.cin_out(self.cin(v)).squeeze(1)
        logits: Tensor = self.linear(sparse, dense) + crossed + self.deep(flat(v, dense)).squeeze(1)
        return logits


def build(config: Config, inputs: Inputs) -> nn.Module:
    return XDeepFM(inputs, config.get(NetSettings))
