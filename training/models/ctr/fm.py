"""Factorisation machine (Rendle 2010): logit = linear + pairwise products of the fields' embeddings.

The online FM that ranks every day is `recsys/fine`; this one is the baseline of the deep models.
"""

from torch import Tensor, nn

from conf import Config
from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.layers import Fields, Linear, pairs


class FM(nn.Module):
    def __init__(self, inputs: Inputs, settings: NetSettings) -> None:
        super().__init__()
        self.linear = Linear(inputs.buckets, len(inputs.dense))
        self.embedding = Fields(inputs.buckets, settings.dim)

    def forward(self, sparse: Tensor, dense: Tensor) -> Tensor:
        logits: Tensor = self.linear(sparse, dense) + pairs(self.embedding(sparse))
        return logits


def build(config: Config, inputs: Inputs) -> nn.Module:
    return FM(inputs, config.get(NetSettings))
