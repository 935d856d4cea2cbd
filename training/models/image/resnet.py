"""ResNet-18 (He et al. 2016), with the 3 × 3 stem for small images."""

from torch import Tensor, nn

from conf import Config
from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.image_layers import ImageNet, conv, image_of, mean_of_image, norm, scaled

STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))  # channels and stride; two blocks each


class Residual(nn.Module):
    def __init__(self, before: int, after: int, stride: int, settings: NetSettings) -> None:
        super().__init__()
        self.first = conv(before, after, 3, settings, stride=stride)
        self.second = nn.Sequential(nn.Conv2d(after, after, 3, padding=1, bias=False), norm(after, settings))
        same = before == after and stride == 1
        self.skip = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), norm(after, settings))
        )

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu(self.second(self.first(x)) + self.skip(x))


def build(config: Config, inputs: Inputs) -> nn.Module:
    settings = config.get(NetSettings)
    before = scaled(STAGES[0][0], settings)
    layers: list[nn.Module] = [conv(image_of(inputs)[0], before, 3, settings)]
    for channels, stride in STAGES:
        after = scaled(channels, settings)
        layers += [Residual(before, after, stride, settings), Residual(after, after, 1, settings)]
        before = after
    return ImageNet(nn.Sequential(*layers, mean_of_image()), before, len(inputs.classes))
