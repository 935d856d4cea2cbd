"""GoogLeNet (Szegedy et al. 2015): nine inception blocks. Its 7 × 7 stem is a 3 × 3 here; no auxiliary heads."""

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
    scaled_width,
)

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
"""Table 1 of the paper: channels of 1×1; before and after 3×3; before and after 5×5; after pooling. None: pool."""


class InceptionBlock(nn.Module):
    """Four branches over the same input, side by side (figure 2b): (B, C, H, W) -> (B, width, H, W)."""

    def __init__(self, before: int, channels: tuple[int, ...], settings: NetSettings) -> None:
        super().__init__()
        one, reduce3, three, reduce5, five, pooled = (scaled_width(number, settings) for number in channels)
        self.branches = nn.ModuleList(
            [
                conv_block(before, one, 1, settings),
                nn.Sequential(conv_block(before, reduce3, 1, settings), conv_block(reduce3, three, 3, settings)),
                nn.Sequential(conv_block(before, reduce5, 1, settings), conv_block(reduce5, five, 5, settings)),
                nn.Sequential(nn.MaxPool2d(3, 1, 1), conv_block(before, pooled, 1, settings)),
            ]
        )
        self.width = one + three + five + pooled

    def forward(self, x: Tensor) -> Tensor:
        outputs = [branch(x) for branch in self.branches]  # (B, channels of the branch, H, W) each
        return torch.cat(outputs, dim=1)


def googlenet(inputs: Inputs, settings: NetSettings) -> ImageClassifier:
    """A stem and nine inception blocks: (B, C, H, W) -> (B, classes). Raises UserError without images."""
    width = scaled_width(192, settings)
    layers: list[nn.Module] = [conv_block(image_shape(inputs)[0], width, 3, settings), HalvingPool()]
    for channels in BLOCKS:
        if channels is None:
            layers.append(HalvingPool())
            continue
        block = InceptionBlock(width, channels, settings)
        layers.append(block)
        width = block.width
    top = (global_avg_pool(), nn.Dropout(settings.dropout))
    return ImageClassifier(nn.Sequential(*layers, *top), width, len(inputs.classes))
