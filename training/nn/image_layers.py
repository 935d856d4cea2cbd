"""What the image networks share: normalisation by choice, scaled widths, and features apart from the last layer."""

from torch import Tensor, nn

from conf import UserError
from training.inputs.schema import Inputs
from training.net_settings import NetSettings


class ImageNet(nn.Module):
    """`body` makes (B, width) of images (B, channels, height, width) between −1 and 1; `head` makes scores of classes.

    Networks were published for large images; here pooling is left out where an image has become too small for it, and
    widths are `net.image_width` of the published ones.
    """

    def __init__(self, body: nn.Module, width: int, classes: int) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(width, classes)

    def features(self, image: Tensor) -> Tensor:
        """(B, width): what the last layer sees, also for transfer learning and the center loss."""
        features: Tensor = self.body(image)
        return features

    def forward(self, image: Tensor) -> Tensor:
        scores: Tensor = self.head(self.features(image))
        return scores


def image_of(inputs: Inputs) -> tuple[int, int, int]:
    """Channels, height, width. Raises UserError for a data set without images."""
    if inputs.image is None:
        raise UserError("this model needs images: its data set is `covers`")
    return inputs.image


def scaled(channels: int, settings: NetSettings) -> int:
    """A published number of channels at `image_width`, a multiple of 4 so that groups fit."""
    return max(4, round(channels * settings.image_width / 4) * 4)


def norm(channels: int, settings: NetSettings) -> nn.Module:
    """Batch norm, or group norm, which does not care how large the batch is."""
    return nn.GroupNorm(min(32, channels // 4), channels) if settings.group_norm else nn.BatchNorm2d(channels)


def conv(before: int, after: int, size: int, settings: NetSettings, *, stride: int = 1) -> nn.Sequential:
    """Convolution, norm, ReLU; the image keeps its size but for the stride."""
    layer = nn.Conv2d(before, after, size, stride, size // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return nn.Sequential(layer, norm(after, settings), nn.ReLU())


class Pool(nn.Module):
    """Halves the image by maxima, as long as there is something to halve."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.max_pool2d(x, 2) if min(x.shape[2:]) > 1 else x


def mean_of_image() -> nn.Sequential:
    """(B, C, H, W) -> (B, C)."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
