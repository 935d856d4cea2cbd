"""Two towers (Yi et al. 2019): user and item become vectors apart from one another; the other items of the batch are
the negatives, corrected by how often they turn up there."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from conf import Config
from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.item_catalog import ItemCatalog
from training.nn.layers import Fields, mean_of_known, mlp

TEMPERATURE = 0.1


class TwoTower(nn.Module):
    """Vectors have length 1; scores are their products over a temperature."""

    def __init__(self, inputs: Inputs, settings: NetSettings) -> None:
        super().__init__()
        self.catalog = ItemCatalog(inputs.num_items, len(inputs.item_columns))
        self.num_sampled = settings.sampled
        self.places, self.item_columns = list(inputs.user_columns), list(inputs.item_columns)
        self.user_fields = Fields([inputs.buckets[i] for i in self.places], settings.dim)
        self.item_fields = Fields([inputs.buckets[i] for i in self.item_columns], settings.dim)
        self.user_tower = mlp((len(self.places) + 1) * settings.dim, settings, settings.dim)
        self.item_tower = mlp(len(self.item_columns) * settings.dim, settings, settings.dim)

    def forward(self, sparse: Tensor, dense: Tensor, history: Tensor) -> Tensor:
        """(B, D): the user's vector."""
        past = self.item_fields.table(history)  # the item is the first of the item's fields
        x = torch.cat([self.user_fields(sparse[:, self.places]).flatten(1), mean_of_known(past, history)], dim=1)
        return functional.normalize(self.user_tower(x), dim=1) / TEMPERATURE

    def items(self, ids: Tensor) -> Tensor:
        """(…, D): vectors of items, by their fields."""
        return functional.normalize(self.item_tower(self.item_fields(self.catalog.fields[ids]).flatten(1)), dim=1)


def build(config: Config, inputs: Inputs) -> nn.Module:
    return TwoTower(inputs, config.get(NetSettings))
