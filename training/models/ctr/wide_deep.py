"""Wide & Deep (Cheng et al. 2016): a linear model that remembers, crossed features among them, beside a deep one."""

from torch import Tensor, nn

from conf import Config
from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.layers import Fields, Linear, flat, flat_width, mlp


class WideDeep(nn.Module):
    def __init__(self, inputs: Inputs, settings: NetSettings) -> None:
        super().__init__()
        self.wide = Linear(inputs.buckets, len(inputs.dense))
        self.embedding = Fields(inputs.buckets, settings.dim)
        self.deep = mlp(flat_width(inputs, settings.dim), settings, 1)

    def forward(self, sparse: Tensor, dense: Tensor) -> Tensor:
        logits: Tensor = self.wide(sparse, dense) + self.deep(flat(self.embedding(sparse), dense)).squeeze(1)
        return logits


def build(config: Config, inputs: Inputs) -> nn.Module:
    return WideDeep(inputs, config.get(NetSettings))
