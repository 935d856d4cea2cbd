"""VGG-16 (Simonyan and Zisserman 2015): 3 × 3 convolutions in five stages."""

from torch import nn

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

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""(published channels, convolutions) of each stage: configuration D of table 1."""


def vgg(inputs: Inputs, settings: NetSettings) -> ImageClassifier:
    """Thirteen convolutions and a dense layer: (B, C, H, W) -> (B, classes). Raises UserError without images."""
    layers: list[nn.Module] = []
    before = image_shape(inputs)[0]
    for channels, convolutions in STAGES:
        after = scaled_width(channels, settings)
        for _ in range(convolutions):
            layers.append(conv_block(before, after, 3, settings))
            before = after
        layers.append(HalvingPool())
    dense = scaled_width(4096, settings)
    top = (global_avg_pool(), nn.Linear(before, dense), nn.ReLU(), nn.Dropout(settings.dropout))
    return ImageClassifier(nn.Sequential(*layers, *top), dense, len(inputs.classes))
