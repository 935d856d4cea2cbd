"""Blocks that the image networks share. Shapes: B images, C channels, H × W pixels between −1 and 1.

Networks were published for large images; here pooling is left out where an image has become too small for it, and
widths are `net.image_width` of the published ones.
"""

from torch import Tensor, nn

from conf import UserError
from training.inputs.schema import Inputs
from training.net_settings import NetSettings


class ImageClassifier(nn.Module):
    """A convolutional `body`, (B, C, H, W) -> (B, width), and a linear `head`, (B, width) -> (B, classes)."""

    def __init__(self, body: nn.Module, width: int, num_classes: int) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(width, num_classes)

    def features(self, image: Tensor) -> Tensor:
        """(B, width): what the last layer sees, also for transfer learning and the center loss."""
        features: Tensor = self.body(image)
        return features

    def forward(self, image: Tensor) -> Tensor:
        """(B, classes) logits."""
        logits: Tensor = self.head(self.features(image))
        return logits


def image_shape(inputs: Inputs) -> tuple[int, int, int]:
    """Channels, height, width. Raises UserError for a data set without images."""
    if inputs.image is None:
        raise UserError("this model needs images: its data set is `covers`")
    return inputs.image


def scaled_width(channels: int, settings: NetSettings) -> int:
    """`net.image_width` of a published number of channels, a multiple of 4 so that group norm's groups fit."""
    return max(4, round(channels * settings.image_width / 4) * 4)


def norm_layer(channels: int, settings: NetSettings) -> nn.Module:
    """Batch norm, or group norm (Wu and He 2018), whose statistics do not depend on the size of the batch."""
    if settings.group_norm:
        return nn.GroupNorm(min(32, channels // 4), channels)  # 32 groups, as in the paper, of 4 channels or more
    return nn.BatchNorm2d(channels)


def conv_block(before: int, after: int, kernel: int, settings: NetSettings, *, stride: int = 1) -> nn.Sequential:
    """Convolution, norm, ReLU: (B, before, H, W) -> (B, after, H / stride, W / stride)."""
    layer = nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, bias=False)  # the norm has a bias
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return nn.Sequential(layer, norm_layer(after, settings), nn.ReLU())


class HalvingPool(nn.Module):
    """2 × 2 max pooling, left out where a side is a single pixel: (B, C, H, W) -> (B, C, H / 2, W / 2)."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.max_pool2d(x, 2) if min(x.shape[2:]) > 1 else x


def global_avg_pool() -> nn.Sequential:
    """The mean of each channel: (B, C, H, W) -> (B, C)."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
