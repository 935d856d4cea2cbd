"""YouTube's ranking network (Covington et al. 2016, section 4), for the task `engaged_click`.

Trained as weighted logistic regression, its odds are the expected engagement.
"""

import torch
from torch import Tensor, nn

from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.layers import FieldEmbedding, concat_width, masked_mean, mlp


class YouTubeRanking(nn.Module):
    """A deep network over embeddings, the mean of what was watched, and numbers x with x² and √x (section 4.1)."""

    def __init__(self, inputs: Inputs, settings: NetSettings) -> None:
        super().__init__()
        self.item = inputs.column_of("item_id")
        self.embedding = FieldEmbedding(inputs, settings.dim, settings.embedding_std)
        width = concat_width(inputs, settings.dim) + settings.dim + 2 * len(inputs.dense)
        self.deep = mlp(width, settings, 1)

    def forward(self, sparse: Tensor, dense: Tensor, history: Tensor) -> Tensor:
        """(B, F) ids, (B, N) numbers, (B, L) past items -> (B,) logits."""
        watched = self.embedding.embed(history, self.item)  # (B, L, D)
        unit = torch.sigmoid(dense)  # (B, N) between 0 and 1, as the paper's quantiles: powers need that
        parts = [
            self.embedding(sparse).flatten(1),  # (B, F·D)
            masked_mean(watched, history),  # (B, D)
            dense,
            unit.square(),
            unit.sqrt(),
        ]
        logits: Tensor = self.deep(torch.cat(parts, dim=1)).squeeze(1)
        return logits
