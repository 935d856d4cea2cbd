"""DCN v2 (Wang et al. 2021): layers of explicit crosses, then a deep network."""

from torch import Tensor, nn

from conf import Config
from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.layers import Fields, flat, flat_width, last_width, mlp


class DCN(nn.Module):
    """x_{l+1} = x_0 ⊙ (W_l x_l + b_l) + x_l, as many times as there are cross layers; stacked."""

    def __init__(self, inputs: Inputs, settings: NetSettings) -> None:
        super().__init__()
        width = flat_width(inputs, settings.dim)
        self.embedding = Fields(inputs.buckets, settings.dim)
        self.crosses = nn.ModuleList(nn.Linear(width, width) for _ in range(settings.cross_layers))
        self.deep = mlp(width, settings)
        self.out = nn.Linear(last_width(width, settings), 1)

    def forward(self, sparse: Tensor, dense: Tensor) -> Tensor:
        x = first = flat(self.embedding(sparse), dense)
        for cross in self.crosses:
            x = first * cross(x) + x
        logits: Tensor = self.out(self.deep(x)).squeeze(1)
        return logits


def build(config: Config, inputs: Inputs) -> nn.Module:
    return DCN(inputs, config.get(NetSettings))
