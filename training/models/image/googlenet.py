"""GoogLeNet (Szegedy et al. 2015): nine inception blocks. Its 7 × 7 stem is a 3 × 3 here; no auxiliary heads."""

import torch
from torch import Tensor, nn

from conf import Config
from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.image_layers import ImageNet, Pool, conv, image_of, mean_of_image, scaled

# 1×1; before and after 3×3; before and after 5×5; after pooling. None: halve the image.
BLOCKS: tuple[tuple[int, int, int, int, int, int] | None, ...] = (
    (64, 96, 128, 16, 32, 32),
    (128, 128, 192, 32, 96, 64),
    None,
    (192, 96, 208, 16, 48, 64),
    (160, 112, 224, 24, 64, 64),
    (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64),
    (256, 160, 320, 32, 128, 128),
    None,
    (256, 160, 320, 32, 128, 128),
    (384, 192, 384, 48, 128, 128),
)


class Inception(nn.Module):
    """Four looks at the same image, side by side."""

    def __init__(self, before: int, widths: tuple[int, ...], settings: NetSettings) -> None:
        super().__init__()
        one, small, three, smaller, five, pooled = (scaled(width, settings) for width in widths)
        self.looks = nn.ModuleList(
            [
                conv(before, one, 1, settings),
                nn.Sequential(conv(before, small, 1, settings), conv(small, three, 3, settings)),
                nn.Sequential(conv(before, smaller, 1, settings), conv(smaller, five, 5, settings)),
                nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(before, pooled, 1, settings)),
            ]
        )
        self.width = one + three + five + pooled

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([look(x) for look in self.looks], dim=1)


def build(config: Config, inputs: Inputs) -> nn.Module:
    settings = config.get(NetSettings)
    width = scaled(192, settings)
    layers: list[nn.Module] = [conv(image_of(inputs)[0], width, 3, settings), Pool()]
    for widths in BLOCKS:
        if widths is None:
            layers.append(Pool())
            continue
        block = Inception(width, widths, settings)
        layers.append(block)
        width = block.width
    top = (mean_of_image(), nn.Dropout(settings.dropout))
    return ImageNet(nn.Sequential(*layers, *top), width, len(inputs.classes))
