"""ResNet-18 (He et al. 2016), with the 3 × 3 stem for small images."""

from torch import Tensor, nn

from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.image_layers import (
    ImageClassifier,
    conv_block,
    global_avg_pool,
    image_shape,
    norm_layer,
    scaled_width,
)

STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))
"""(published channels, stride) of each stage of two blocks."""


class ResidualBlock(nn.Module):
    """y = ReLU(F(x) + x), F being two 3 × 3 convolutions (eq. 1): (B, C, H, W) -> (B, C', H/stride, W/stride)."""

    def __init__(self, before: int, after: int, stride: int, settings: NetSettings) -> None:
        super().__init__()
        self.first = conv_block(before, after, 3, settings, stride=stride)
        self.second = nn.Sequential(nn.Conv2d(after, after, 3, padding=1, bias=False), norm_layer(after, settings))
        keeps_shape = before == after and stride == 1
        # A 1 × 1 projection where shapes differ (eq. 2).
        self.skip = (
            nn.Identity()
            if keeps_shape
            else nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), norm_layer(after, settings))
        )

    def forward(self, x: Tensor) -> Tensor:
        residual = self.second(self.first(x))  # (B, C', H/stride, W/stride)
        return nn.functional.relu(residual + self.skip(x))


def resnet(inputs: Inputs, settings: NetSettings) -> ImageClassifier:
    """A stem and eight residual blocks: (B, C, H, W) -> (B, classes). Raises UserError without images."""
    before = scaled_width(STAGES[0][0], settings)
    layers: list[nn.Module] = [conv_block(image_shape(inputs)[0], before, 3, settings)]
    for channels, stride in STAGES:
        after = scaled_width(channels, settings)
        layers += [ResidualBlock(before, after, stride, settings), ResidualBlock(after, after, 1, settings)]
        before = after
    return ImageClassifier(nn.Sequential(*layers, global_avg_pool()), before, len(inputs.classes))
