"""Two towers (Yi et al. 2019): user and item become vectors by networks that do not see each other.

For the task `next_item_in_batch`: the other items of the batch are the negatives, corrected by how often they are
drawn (logQ).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.item_catalog import ItemCatalog
from training.nn.layers import FieldEmbedding, masked_mean, mlp

TEMPERATURE = 0.1  # τ: products of vectors of length 1 alone have too narrow a range of scores for a softmax


class TwoTowerNet(nn.Module):
    """s(x, y) = <u(x), v(y)> / τ with vectors of length 1 and a temperature τ."""

    def __init__(self, inputs: Inputs, settings: NetSettings) -> None:
        super().__init__()
        self.catalog = ItemCatalog(inputs.num_items, len(inputs.item_columns))
        self.num_sampled = settings.sampled
        self.user_columns = list(inputs.user_columns)
        self.user_fields = FieldEmbedding(
            [inputs.buckets[i] for i in inputs.user_columns], settings.dim, settings.embedding_std
        )
        self.item_fields = FieldEmbedding(
            [inputs.buckets[i] for i in inputs.item_columns], settings.dim, settings.embedding_std
        )
        self.user_tower = mlp((len(inputs.user_columns) + 1) * settings.dim, settings, settings.dim)
        self.item_tower = mlp(len(inputs.item_columns) * settings.dim, settings, settings.dim)

    def forward(self, sparse: Tensor, dense: Tensor, history: Tensor) -> Tensor:
        """(B, F) ids, (B, N) numbers (not read), (B, L) past items -> (B, D) vectors of users, over τ."""
        past = self.item_fields.embed(history, 0)  # (B, L, D); the item's id is the first of its fields
        user = self.user_fields(sparse[:, self.user_columns])  # (B, user fields, D)
        x = torch.cat([user.flatten(1), masked_mean(past, history)], dim=1)
        return functional.normalize(self.user_tower(x), dim=1) / TEMPERATURE

    def items(self, ids: Tensor) -> Tensor:
        """(B,) ids -> (B, D) vectors of items, by their fields."""
        fields = self.item_fields(self.catalog.fields[ids])  # (B, item fields, D)
        return functional.normalize(self.item_tower(fields.flatten(1)), dim=1)
