"""DIN (Zhou et al. 2018): the items a user chose before weigh by how they fit the item in question."""

import torch
from torch import Tensor, nn

from conf import Config
from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.layers import Fields, flat, flat_width, mlp


class DIN(nn.Module):
    """A small network weighs each past item by (past, wanted, difference, product); no softmax over them."""

    def __init__(self, inputs: Inputs, settings: NetSettings) -> None:
        super().__init__()
        self.item = inputs.column_of("item_id")
        self.embedding = Fields(inputs.buckets, settings.dim)
        self.attention = mlp(4 * settings.dim, settings, 1, hidden=(settings.attention_dim,))
        self.deep = mlp(flat_width(inputs, settings.dim) + settings.dim, settings, 1)

    def forward(self, sparse: Tensor, dense: Tensor, history: Tensor) -> Tensor:
        v = self.embedding(sparse)  # (B, F, D)
        past = self.embedding.table(history + self.embedding.offsets[self.item])  # (B, L, D)
        target = v[:, self.item : self.item + 1].expand_as(past)
        facts = torch.cat([past, target, past - target, past * target], dim=2)
        weight = self.attention(facts.flatten(0, 1)).view(history.shape)  # (B, L)
        weight = weight * (history > 0).to(weight.dtype)
        interest = (weight.unsqueeze(2) * past).sum(dim=1)
        logits: Tensor = self.deep(torch.cat([flat(v, dense), interest], dim=1)).squeeze(1)
        return logits


def build(config: Config, inputs: Inputs) -> nn.Module:
    return DIN(inputs, config.get(NetSettings))
