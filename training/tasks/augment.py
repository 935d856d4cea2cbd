"""Augmentation of images, for training only (F12). Images are (B, channels, height, width), float, between −1 and 1.

Every image of a batch has its own random numbers, from torch's global generator: they follow from the seed of the step.
All of it runs on the device of the images, as tensor operations over the whole batch.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from training.settings import AugmentSettings


def augment(image: Tensor, settings: AugmentSettings) -> Tensor:
    """Apply all augmentations that `settings` turns on, in the order of AUGMENTATIONS; shape and range stay."""
    for name, augmentation in AUGMENTATIONS.items():
        amount = float(getattr(settings, name))
        if amount:
            image = augmentation(image, amount)
    return image


def flip(image: Tensor, _: float) -> Tensor:
    """Mirror half of the images left to right."""
    is_mirrored = _uniform(image, 0, 1) < 0.5  # (B, 1, 1, 1)
    return torch.where(is_mirrored, image.flip(3), image)


def rotate(image: Tensor, degrees: float) -> Tensor:
    """Rotate about the centre by up to `degrees` either way."""
    angle = _uniform(image, -1, 1).flatten() * math.radians(degrees)  # (B,)
    return _affine(image, angle=angle)


def shift(image: Tensor, share: float) -> Tensor:
    """Move by up to a share of width and height either way; the border pixels are repeated."""
    # Twice, for the grid's coordinates run from −1 to 1.
    x, y = (2 * share * _uniform(image, -1, 1).flatten() for _ in range(2))  # (B,) each
    return _affine(image, x=x, y=y)


def zoom(image: Tensor, share: float) -> Tensor:
    """Enlarge or shrink about the centre by up to a share."""
    scale = 1 + share * _uniform(image, -1, 1).flatten()  # (B,)
    return _affine(image, scale=scale)


def pad(image: Tensor, pixels: float) -> Tensor:
    """Pad by black pixels and crop to the size before: a shift by up to `pixels` whole pixels (He et al. 2016)."""
    width = int(pixels)
    padded: Tensor = functional.pad(image, (width,) * 4, value=-1.0)
    rows, height, length = len(image), image.shape[2], image.shape[3]
    y_offset, x_offset = (torch.randint(0, 2 * width + 1, (rows, 1), device=image.device) for _ in range(2))
    y = y_offset + torch.arange(height, device=image.device)  # (B, H)
    x = x_offset + torch.arange(length, device=image.device)  # (B, W)
    # One gather for all crops: the four indices broadcast to (B, C, H, W).
    cropped: Tensor = padded[
        torch.arange(rows, device=image.device).view(-1, 1, 1, 1),
        torch.arange(image.shape[1], device=image.device).view(1, -1, 1, 1),
        y.view(rows, 1, -1, 1),
        x.view(rows, 1, 1, -1),
    ]
    return cropped


def hsv(image: Tensor, share: float) -> Tensor:
    """Change hue, by up to a share of the colour circle, saturation and value, by up to a share of themselves."""
    # (B, H, W) each
    hue, saturation, value = _to_hsv((image + 1) / 2)
    hue = (hue + share * _uniform(image, -1, 1)[:, 0]) % 1.0  # a circle
    saturation = (saturation * (1 + share * _uniform(image, -1, 1)[:, 0])).clamp(0, 1)
    value = (value * (1 + share * _uniform(image, -1, 1)[:, 0])).clamp(0, 1)
    return _to_rgb(hue, saturation, value) * 2 - 1


def contrast(image: Tensor, share: float) -> Tensor:
    """Stretch or squeeze the distance of all pixels from the image's mean by up to a share."""
    mean = image.mean(dim=(1, 2, 3), keepdim=True)
    return (mean + (image - mean) * (1 + share * _uniform(image, -1, 1))).clamp(-1, 1)


def pca(image: Tensor, deviation: float) -> Tensor:
    """Add noise along the principal components of the batch's colours, in proportion to their standard deviations.

    "Fancy PCA" of Krizhevsky et al. 2012, who take the components of the whole training set; a batch's are near them.
    """
    colours = image.transpose(0, 1).flatten(1)  # (channels, B · H · W)
    variances, components = torch.linalg.eigh(torch.cov(colours))
    alpha = torch.randn((len(image), len(variances)), device=image.device) * deviation  # the paper's αᵢ
    # Rounding can make the smallest variance negative.
    offset: Tensor = (alpha * variances.clamp(min=0).sqrt()) @ components.T  # (B, channels)
    shifted: Tensor = (image + offset[:, :, None, None]).clamp(-1, 1)
    return shifted


def noise(image: Tensor, deviation: float) -> Tensor:
    """Add independent Gaussian noise to every pixel and channel."""
    return (image + deviation * torch.randn_like(image)).clamp(-1, 1)


# By the names of `augment.*`, whose values are the amounts; in order: geometry first, then colours, noise last.
AUGMENTATIONS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "flip": flip,
    "rotate": rotate,
    "shift": shift,
    "zoom": zoom,
    "pad": pad,
    "hsv": hsv,
    "contrast": contrast,
    "pca": pca,
    "noise": noise,
}


def five_crops(image: Tensor) -> list[Tensor]:
    """Crops of the four corners and the centre, 7/8 of each side, resized to the size of the image: 5 × (B, C, H, W).

    As Krizhevsky et al. 2012 average over in testing, but for their mirror images.
    """
    height, width = image.shape[2:]
    h, w = max(height * 7 // 8, 1), max(width * 7 // 8, 1)
    corners = [(0, 0), (0, width - w), (height - h, 0), (height - h, width - w), ((height - h) // 2, (width - w) // 2)]
    crops = [image[:, :, top : top + h, x_offset : x_offset + w] for top, x_offset in corners]
    return [functional.interpolate(crop, size=(height, width), mode="bilinear", align_corners=False) for crop in crops]


def _uniform(image: Tensor, low: float, high: float) -> Tensor:
    """Random numbers (B, 1, 1, 1), one for each image."""
    return torch.empty((len(image), 1, 1, 1), device=image.device).uniform_(low, high)


def _affine(
    image: Tensor,
    *,
    angle: Tensor | None = None,
    scale: Tensor | None = None,
    x: Tensor | None = None,
    y: Tensor | None = None,
) -> Tensor:
    """Rotate by `angle` (radians), enlarge by `scale` and move by `x`, `y` (half widths and heights), all (B,)."""
    zero, one = image.new_zeros(len(image)), image.new_ones(len(image))
    angle, scale = zero if angle is None else angle, one if scale is None else scale
    # The inverse map, from pixels of the output to those of the input, hence the division by the scale.
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    top = torch.stack([cos, -sin, zero if x is None else x], dim=1)
    bottom = torch.stack([sin, cos, zero if y is None else y], dim=1)
    grid = functional.affine_grid(torch.stack([top, bottom], dim=1), list(image.shape), align_corners=False)
    return functional.grid_sample(image, grid, padding_mode="border", align_corners=False)


def _to_hsv(rgb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B, 3, H, W) between 0 and 1 -> hue, saturation, value (B, H, W), each between 0 and 1."""
    value, largest_channel = rgb.max(dim=1)
    chroma = value - rgb.min(dim=1).values
    nonzero_chroma = chroma.clamp(min=1e-8)  # grey has no hue; it gets that of red
    r, g, b = rgb.unbind(1)
    # Hue in sixths of the circle, for each channel as the largest one.
    sixths = torch.stack([(g - b) / nonzero_chroma, 2 + (b - r) / nonzero_chroma, 4 + (r - g) / nonzero_chroma], dim=1)
    hue = (sixths.gather(1, largest_channel.unsqueeze(1)).squeeze(1) / 6) % 1.0
    return hue, chroma / value.clamp(min=1e-8), value


def _to_rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """The inverse of `_to_hsv`: (B, H, W) each -> (B, 3, H, W) between 0 and 1."""

    # f(n) = V − V·S·max(0, min(k, 4 − k, 1)), k = (n + 6 H) mod 6: the closed form without cases.
    def channel(n: int) -> Tensor:
        k = (n + hue * 6) % 6
        return value - value * saturation * torch.minimum(k, 4 - k).clamp(0, 1)

    return torch.stack([channel(5), channel(3), channel(1)], dim=1)
