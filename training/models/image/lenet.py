"""LeNet-5 (LeCun et al. 1998), with ReLU and max pooling."""

from torch import nn

from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.image_layers import HalvingPool, ImageClassifier, image_shape


def lenet(inputs: Inputs, settings: NetSettings) -> ImageClassifier:
    """Two 5 × 5 convolutions and two dense layers: (B, C, H, W) -> (B, classes). Raises UserError without images."""
    channels, height, width = image_shape(inputs)
    body = nn.Sequential(
        *(nn.Conv2d(channels, 6, 5, padding=2), nn.ReLU(), HalvingPool()),  # (B, 6, H/2, W/2)
        *(nn.Conv2d(6, 16, 5, padding=2), nn.ReLU(), HalvingPool()),  # (B, 16, H/4, W/4)
        *(nn.Flatten(), nn.Linear(16 * max(height // 4, 1) * max(width // 4, 1), 120), nn.ReLU()),
        *(nn.Linear(120, 84), nn.ReLU()),
    )
    return ImageClassifier(body, 84, len(inputs.classes))
