"""Logistic regression over ids and numbers."""

from torch import Tensor, nn

from conf import Config
from training.inputs.schema import Inputs
from training.nn.layers import Linear


class LR(nn.Module):
    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        self.linear = Linear(inputs.buckets, len(inputs.dense))

    def forward(self, sparse: Tensor, dense: Tensor) -> Tensor:
        logits: Tensor = self.linear(sparse, dense)
        return logits


def build(config: Config, inputs: Inputs) -> nn.Module:
    return LR(inputs)
