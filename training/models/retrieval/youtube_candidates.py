"""YouTube's candidate network (Covington et al. 2016, section 3): P(next = i | user, context) over all items.

Trained by a softmax of which each step samples some items (task `next_item`). At serving time the nearest items of the
user's vector are the candidates.
"""

import torch
from torch import Tensor, nn

from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.item_catalog import ItemCatalog
from training.nn.layers import FieldEmbedding, masked_mean, mlp


class YouTubeCandidates(nn.Module):
    """P(i | U, C) ∝ exp(v_i·u + b_i), u being a network over the user's fields and the mean of what was watched."""

    def __init__(self, inputs: Inputs, settings: NetSettings) -> None:
        super().__init__()
        self.catalog = ItemCatalog(inputs.num_items, len(inputs.item_columns))
        self.num_sampled = settings.sampled
        self.user_columns = list(inputs.user_columns)
        self.embedding = FieldEmbedding(
            [inputs.buckets[i] for i in self.user_columns], settings.dim, settings.embedding_std
        )
        # Watched items and candidates have embeddings of their own, as in the paper.
        self.watched = nn.Embedding(max(inputs.num_items, inputs.list_buckets), settings.dim)
        self.item = nn.Embedding(inputs.num_items, settings.dim)
        for table in (self.watched, self.item):
            nn.init.normal_(table.weight, std=0.05)
        self.bias = nn.Embedding(inputs.num_items, 1)
        nn.init.zeros_(self.bias.weight)
        self.tower = mlp((len(self.user_columns) + 1) * settings.dim, settings, settings.dim)

    def forward(self, sparse: Tensor, dense: Tensor, history: Tensor) -> Tensor:
        """(B, F) ids, (B, N) numbers (not read), (B, L) past items -> (B, D + 1): u, and a 1 for the items' biases."""
        watched = masked_mean(self.watched(history), history)  # (B, D)
        x = torch.cat([self.embedding(sparse[:, self.user_columns]).flatten(1), watched], dim=1)
        user = self.tower(x)  # (B, D)
        return torch.cat([user, torch.ones_like(user[:, :1])], dim=1)

    def items(self, ids: Tensor) -> Tensor:
        """(B,) ids -> (B, D + 1): v_i and its bias."""
        vectors, biases = self.item(ids), self.bias(ids)  # (B, D), (B, 1)
        return torch.cat([vectors, biases], dim=-1)
