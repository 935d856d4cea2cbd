"""AlexNet (Krizhevsky et al. 2012), its first layer made for small images, with norms in place of local responses."""

from torch import nn

from conf import Config
from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.image_layers import ImageNet, Pool, conv, image_of, mean_of_image, scaled


def build(config: Config, inputs: Inputs) -> nn.Module:
    settings = config.get(NetSettings)
    a, b, c, d = (scaled(width, settings) for width in (64, 192, 384, 256))
    dense = scaled(4096, settings)
    body = nn.Sequential(
        *(conv(image_of(inputs)[0], a, 5, settings), Pool()),
        *(conv(a, b, 5, settings), Pool()),
        *(conv(b, c, 3, settings), conv(c, d, 3, settings), conv(d, d, 3, settings), Pool()),
        *(mean_of_image(), nn.Dropout(settings.dropout), nn.Linear(d, dense), nn.ReLU()),
        *(nn.Dropout(settings.dropout), nn.Linear(dense, dense), nn.ReLU()),
    )
    return ImageNet(body, dense, len(inputs.classes))
