"""DLRM (Naumov et al. 2019): numbers become one more vector; dot products of all vectors feed the top network."""

import torch
from torch import Tensor, nn

from conf import Config
from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.layers import Fields, mlp


class DLRM(nn.Module):
    def __init__(self, inputs: Inputs, settings: NetSettings) -> None:
        super().__init__()
        vectors = len(inputs.sparse) + 1
        self.embedding = Fields(inputs.buckets, settings.dim)
        self.bottom = mlp(len(inputs.dense), settings, settings.dim)
        self.top = mlp(settings.dim + vectors * (vectors - 1) // 2, settings, 1)
        self.lower: Tensor
        self.register_buffer("lower", torch.tril_indices(vectors, vectors, -1), persistent=False)

    def forward(self, sparse: Tensor, dense: Tensor) -> Tensor:
        numbers = self.bottom(dense)  # (B, D)
        v = torch.cat([numbers.unsqueeze(1), self.embedding(sparse)], dim=1)
        products = (v @ v.transpose(1, 2))[:, self.lower[0], self.lower[1]]
        logits: Tensor = self.top(torch.cat([numbers, products], dim=1)).squeeze(1)
        return logits


def build(config: Config, inputs: Inputs) -> nn.Module:
    return DLRM(inputs, config.get(NetSettings))
