"""VGG-16 (Simonyan and Zisserman 2015): 3 × 3 convolutions in five stages."""

from torch import nn

from conf import Config
from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.image_layers import ImageNet, Pool, conv, image_of, mean_of_image, scaled

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


def build(config: Config, inputs: Inputs) -> nn.Module:
    settings = config.get(NetSettings)
    layers: list[nn.Module] = []
    before = image_of(inputs)[0]
    for channels, convolutions in STAGES:
        after = scaled(channels, settings)
        for _ in range(convolutions):
            layers.append(conv(before, after, 3, settings))
            before = after
        layers.append(Pool())
    dense = scaled(4096, settings)
    top = (mean_of_image(), nn.Linear(before, dense), nn.ReLU(), nn.Dropout(settings.dropout))
    return ImageNet(nn.Sequential(*layers, *top), dense, len(inputs.classes))
