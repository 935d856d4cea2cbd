"""LeNet-5 (LeCun et al. 1998), with ReLU."""

from torch import nn

from conf import Config
from training.inputs.schema import Inputs
from training.nn.image_layers import ImageNet, Pool, image_of


def build(config: Config, inputs: Inputs) -> nn.Module:
    channels, height, width = image_of(inputs)
    body = nn.Sequential(
        *(nn.Conv2d(channels, 6, 5, padding=2), nn.ReLU(), Pool()),
        *(nn.Conv2d(6, 16, 5, padding=2), nn.ReLU(), Pool()),
        *(nn.Flatten(), nn.Linear(16 * max(height // 4, 1) * max(width // 4, 1), 120), nn.ReLU()),
        *(nn.Linear(120, 84), nn.ReLU()),
    )
    return ImageNet(body, 84, len(inputs.classes))
