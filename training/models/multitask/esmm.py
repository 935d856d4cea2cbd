"""ESMM (Ma et al. 2018): p(like) = p(click) · p(like | click), learned over all impressions, not only clicked ones."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from conf import Config
from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.layers import Fields, flat, flat_width, mlp


class ESMM(nn.Module):
    def __init__(self, inputs: Inputs, settings: NetSettings) -> None:
        super().__init__()
        width = flat_width(inputs, settings.dim)
        self.embedding = Fields(inputs.buckets, settings.dim)
        self.click = mlp(width, settings, 1)
        self.after_click = mlp(width, settings, 1)

    def forward(self, sparse: Tensor, dense: Tensor) -> Tensor:
        """(B, 2) logits of a click, and of a click with what follows."""
        x = flat(self.embedding(sparse), dense)
        click, after = self.click(x), self.after_click(x)
        log_both = functional.logsigmoid(click) + functional.logsigmoid(after)
        # logit = log p − log(1 − p); p below 1, or the log of 1 − p has no value
        log_both = log_both.clamp(max=-1e-6)
        both = log_both - torch.log(1 - torch.exp(log_both))
        return torch.cat([click, both], dim=1)


def build(config: Config, inputs: Inputs) -> nn.Module:
    return ESMM(inputs, config.get(NetSettings))
