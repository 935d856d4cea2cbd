"""DenseNet (Huang et al. 2017): each layer reads the outputs of all before it. A third of DenseNet-121's layers."""

import torch
from torch import Tensor, nn

from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.image_layers import (
    HalvingPool,
    ImageClassifier,
    conv_block,
    global_avg_pool,
    image_shape,
    norm_layer,
    scaled_width,
)

BLOCKS = (2, 4, 8, 5)
"""Layers of each dense block; published: 6, 12, 24, 16, for images of 224 × 224."""


class DenseLayer(nn.Module):
    """x_l = H([x_0, …, x_{l−1}])  (eq. 2), appended to its input: (B, C, H, W) -> (B, C + growth, H, W).

    H is norm, ReLU, a 1 × 1 bottleneck of four times the growth, then norm, ReLU, 3 × 3 (DenseNet-B).
    """

    def __init__(self, before: int, growth: int, settings: NetSettings) -> None:
        super().__init__()
        self.transform = nn.Sequential(
            *(norm_layer(before, settings), nn.ReLU(), nn.Conv2d(before, 4 * growth, 1, bias=False)),
            *(norm_layer(4 * growth, settings), nn.ReLU(), nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)),
        )

    def forward(self, x: Tensor) -> Tensor:
        new_maps = self.transform(x)  # (B, growth, H, W)
        return torch.cat([x, new_maps], dim=1)


def densenet(inputs: Inputs, settings: NetSettings) -> ImageClassifier:
    """A stem and four dense blocks: (B, C, H, W) -> (B, classes). Raises UserError without images."""
    growth = scaled_width(32, settings)
    width = 2 * growth
    layers: list[nn.Module] = [conv_block(image_shape(inputs)[0], width, 3, settings)]
    for number, depth in enumerate(BLOCKS):
        for _ in range(depth):
            layers.append(DenseLayer(width, growth, settings))
            width += growth
        if number < len(BLOCKS) - 1:
            # Transition: half the channels (θ = 0.5), a multiple of 4 so that group norm's groups fit.
            half = max(4, width // 8 * 4)
            layers += [nn.Conv2d(width, half, 1, bias=False), HalvingPool()]
            width = half
    top = (norm_layer(width, settings), nn.ReLU(), global_avg_pool())
    return ImageClassifier(nn.Sequential(*layers, *top), width, len(inputs.classes))
