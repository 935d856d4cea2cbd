"""YouTube's ranking network (Covington et al. 2016): what was watched, user, item and numbers (also squared and as
roots) through dense layers; trained as weighted logistic regression."""

import torch
from torch import Tensor, nn

from conf import Config
from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.layers import Fields, flat_width, mean_of_known, mlp


class YouTubeRanking(nn.Module):
    def __init__(self, inputs: Inputs, settings: NetSettings) -> None:
        super().__init__()
        self.item = inputs.column_of("item_id")
        self.embedding = Fields(inputs.buckets, settings.dim)
        width = flat_width(inputs, settings.dim) + settings.dim + 2 * len(inputs.dense)
        self.deep = mlp(width, settings, 1)

    def forward(self, sparse: Tensor, dense: Tensor, history: Tensor) -> Tensor:
        watched = self.embedding.table(history + self.embedding.offsets[self.item])
        share = torch.sigmoid(dense)  # powers want numbers between 0 and 1
        parts = [
            self.embedding(sparse).flatten(1),
            mean_of_known(watched, history),
            dense,
            share.square(),
            share.sqrt(),
        ]
        logits: Tensor = self.deep(torch.cat(parts, dim=1)).squeeze(1)
        return logits


def build(config: Config, inputs: Inputs) -> nn.Module:
    return YouTubeRanking(inputs, config.get(NetSettings))
