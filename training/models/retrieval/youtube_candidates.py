"""YouTube's candidate network (Covington et al. 2016): P(next = i | user, context) over all items.

The mean of what was watched and the user's features become a vector; a softmax over all items, of which a step samples
some. At serving time the nearest items of the vector are the candidates.
"""

import torch
from torch import Tensor, nn

from conf import Config
from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.item_catalog import ItemCatalog
from training.nn.layers import Fields, mean_of_known, mlp


class YouTubeCandidates(nn.Module):
    def __init__(self, inputs: Inputs, settings: NetSettings) -> None:
        super().__init__()
        self.catalog = ItemCatalog(inputs.num_items, len(inputs.item_columns))
        self.num_sampled = settings.sampled
        self.places = list(inputs.user_columns)
        self.embedding = Fields([inputs.buckets[i] for i in self.places], settings.dim)
        self.watched = nn.Embedding(max(inputs.num_items, inputs.list_buckets), settings.dim)
        self.item = nn.Embedding(inputs.num_items, settings.dim)
        for table in (self.watched, self.item):
            nn.init.normal_(table.weight, std=0.05)
        self.bias = nn.Embedding(inputs.num_items, 1)
        nn.init.zeros_(self.bias.weight)
        self.tower = mlp((len(self.places) + 1) * settings.dim, settings, settings.dim)

    def forward(self, sparse: Tensor, dense: Tensor, history: Tensor) -> Tensor:
        """(B, D + 1): the user's vector, and a 1 for the items' biases."""
        mean = mean_of_known(self.watched(history), history)
        x = torch.cat([self.embedding(sparse[:, self.places]).flatten(1), mean], dim=1)
        user = self.tower(x)
        return torch.cat([user, torch.ones_like(user[:, :1])], dim=1)

    def items(self, ids: Tensor) -> Tensor:
        """(…, D + 1)."""
        return torch.cat([self.item(ids), self.bias(ids)], dim=-1)


def build(config: Config, inputs: Inputs) -> nn.Module:
    return YouTubeCandidates(inputs, config.get(NetSettings))
