"""DenseNet-121 (Huang et al. 2017): each layer sees all before it. A third of its layers, for small images."""

import torch
from torch import Tensor, nn

from conf import Config
from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.image_layers import ImageNet, Pool, conv, image_of, mean_of_image, norm, scaled

BLOCKS = (2, 4, 8, 5)  # layers; published: 6, 12, 24, 16


class DenseLayer(nn.Module):
    """Norm, ReLU, 1 × 1, then 3 × 3; what it finds is put beside what it saw."""

    def __init__(self, before: int, growth: int, settings: NetSettings) -> None:
        super().__init__()
        self.look = nn.Sequential(
            *(norm(before, settings), nn.ReLU(), nn.Conv2d(before, 4 * growth, 1, bias=False)),
            *(norm(4 * growth, settings), nn.ReLU(), nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.look(x)], dim=1)


def build(config: Config, inputs: Inputs) -> nn.Module:
    settings = config.get(NetSettings)
    growth = scaled(32, settings)
    width = 2 * growth
    layers: list[nn.Module] = [conv(image_of(inputs)[0], width, 3, settings)]
    for number, depth in enumerate(BLOCKS):
        for _ in range(depth):
            layers.append(DenseLayer(width, growth, settings))
            width += growth
        if number < len(BLOCKS) - 1:
            half = max(4, width // 8 * 4)
            layers += [nn.Conv2d(width, half, 1, bias=False), Pool()]
            width = half
    top = (norm(width, settings), nn.ReLU(), mean_of_image())
    return ImageNet(nn.Sequential(*layers, *top), width, len(inputs.classes))
