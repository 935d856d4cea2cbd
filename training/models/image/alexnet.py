"""AlexNet (Krizhevsky et al. 2012), its first layer made for small images, with norms in place of local responses."""

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


def alexnet(inputs: Inputs, settings: NetSettings) -> ImageClassifier:
    """Five convolutions and two dense layers: (B, C, H, W) -> (B, classes). Raises UserError without images."""
    a, b, c, d = (scaled_width(channels, settings) for channels in (64, 192, 384, 256))
    dense = scaled_width(4096, settings)
    body = nn.Sequential(
        *(conv_block(image_shape(inputs)[0], a, 5, settings), HalvingPool()),  # (B, a, H/2, W/2)
        *(conv_block(a, b, 5, settings), HalvingPool()),
        *(conv_block(b, c, 3, settings), conv_block(c, d, 3, settings), conv_block(d, d, 3, settings), HalvingPool()),
        *(global_avg_pool(), nn.Dropout(settings.dropout), nn.Linear(d, dense), nn.ReLU()),  # (B, dense)
        *(nn.Dropout(settings.dropout), nn.Linear(dense, dense), nn.ReLU()),
    )
    return ImageClassifier(body, dense, len(inputs.classes))
