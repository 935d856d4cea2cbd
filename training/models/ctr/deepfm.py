"""DeepFM (Guo et al. 2017): a factorisation machine and a deep network over the same embeddings."""

from torch import Tensor, nn

from conf import Config
from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.layers import Fields, Linear, flat, flat_width, mlp, pairs


class DeepFM(nn.Module):
    """logit = linear + pairwise products of field embeddings + a network over all of them."""

    def __init__(self, inputs: Inputs, settings: NetSettings) -> None:
        super().__init__()
        self.linear = Linear(inputs.buckets, len(inputs.dense))
        self.embedding = Fields(inputs.buckets, settings.dim)
        self.deep = mlp(flat_width(inputs, settings.dim), settings, 1)

    def forward(self, sparse: Tensor, dense: Tensor) -> Tensor:
        v = self.embedding(sparse)  # (B, F, D)
        logits: Tensor = self.linear(sparse, dense) + pairs(v) + self.deep(flat(v, dense)).squeeze(1)
        return logits


def build(config: Config, inputs: Inputs) -> nn.Module:
    return DeepFM(inputs, config.get(NetSettings))
