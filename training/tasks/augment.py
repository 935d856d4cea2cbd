"""Augmentation of images, for training only (F12). Images are (B, channels, height, width) between −1 and 1.

Every image of a batch is changed by its own draw; draws come from torch's generator, so they follow from the seed.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from training.settings import AugmentSettings


def augment(image: Tensor, settings: AugmentSettings) -> Tensor:
    """The images as training sees them once."""
    for name, change in CHANGES.items():
        amount = float(getattr(settings, name))
        if amount:
            image = change(image, amount)
    return image


def flip(image: Tensor, _: float) -> Tensor:
    return torch.where(_uniform(image, 0, 1) < 0.5, image.flip(3), image)


def rotate(image: Tensor, degrees: float) -> Tensor:
    return _affine(image, angle=_uniform(image, -1, 1).flatten() * math.radians(degrees))


def shift(image: Tensor, share: float) -> Tensor:
    return _affine(
        image, x=2 * share * _uniform(image, -1, 1).flatten(), y=2 * share * _uniform(image, -1, 1).flatten()
    )


def zoom(image: Tensor, share: float) -> Tensor:
    return _affine(image, scale=1 + share * _uniform(image, -1, 1).flatten())


def pad(image: Tensor, pixels: float) -> Tensor:
    """A crop of the padded image is a shift by whole pixels with black behind it."""
    width = int(pixels)
    padded: Tensor = functional.pad(image, (width,) * 4, value=-1.0)
    rows, height, length = len(image), image.shape[2], image.shape[3]
    top, x_offset = (torch.randint(0, 2 * width + 1, (rows, 1), device=image.device) for _ in range(2))
    down = top + torch.arange(height, device=image.device)  # (B, H)
    across = x_offset + torch.arange(length, device=image.device)
    cropped: Tensor = padded[
        torch.arange(rows, device=image.device).view(-1, 1, 1, 1),
        torch.arange(image.shape[1], device=image.device).view(1, -1, 1, 1),
        down.view(rows, 1, -1, 1),
        across.view(rows, 1, 1, -1),
    ]
    return cropped


def hsv(image: Tensor, share: float) -> Tensor:
    hue, saturation, value = _to_hsv((image + 1) / 2)
    hue = (hue + share * _uniform(image, -1, 1)[:, 0]) % 1.0
    saturation = (saturation * (1 + share * _uniform(image, -1, 1)[:, 0])).clamp(0, 1)
    value = (value * (1 + share * _uniform(image, -1, 1)[:, 0])).clamp(0, 1)
    return _to_rgb(hue, saturation, value) * 2 - 1


def contrast(image: Tensor, share: float) -> Tensor:
    mean = image.mean(dim=(1, 2, 3), keepdim=True)
    return (mean + (image - mean) * (1 + share * _uniform(image, -1, 1))).clamp(-1, 1)


def pca(image: Tensor, deviation: float) -> Tensor:
    """Along the principal components of the batch's colours, in proportion to their standard deviations."""
    colours = image.transpose(0, 1).flatten(1)
    covariance = torch.cov(colours)
    values, vectors = torch.linalg.eigh(covariance)
    draw = torch.randn((len(image), len(values)), device=image.device) * deviation
    moved: Tensor = (draw * values.clamp(min=0).sqrt()) @ vectors.T  # (B, channels)
    shifted: Tensor = (image + moved[:, :, None, None]).clamp(-1, 1)
    return shifted


def noise(image: Tensor, deviation: float) -> Tensor:
    return (image + deviation * torch.randn_like(image)).clamp(-1, 1)


CHANGES: dict[str, Callable[[Tensor, float], Tensor]] = {
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
    """Four corners and the centre, 7/8 of each side, brought back to the image's size."""
    height, width = image.shape[2:]
    h, w = max(height * 7 // 8, 1), max(width * 7 // 8, 1)
    corners = [(0, 0), (0, width - w), (height - h, 0), (height - h, width - w), ((height - h) // 2, (width - w) // 2)]
    crops = [image[:, :, top : top + h, x_offset : x_offset + w] for top, x_offset in corners]
    return [functional.interpolate(crop, size=(height, width), mode="bilinear", align_corners=False) for crop in crops]


def _uniform(image: Tensor, low: float, high: float) -> Tensor:
    """(B, 1, 1, 1)."""
    return torch.empty((len(image), 1, 1, 1), device=image.device).uniform_(low, high)


def _affine(
    image: Tensor,
    *,
    angle: Tensor | None = None,
    scale: Tensor | None = None,
    x: Tensor | None = None,
    y: Tensor | None = None,
) -> Tensor:
    zero, one = image.new_zeros(len(image)), image.new_ones(len(image))
    angle, scale = zero if angle is None else angle, one if scale is None else scale
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    top = torch.stack([cos, -sin, zero if x is None else x], dim=1)
    bottom = torch.stack([sin, cos, zero if y is None else y], dim=1)
    grid = functional.affine_grid(torch.stack([top, bottom], dim=1), list(image.shape), align_corners=False)
    return functional.grid_sample(image, grid, padding_mode="border", align_corners=False)


def _to_hsv(rgb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B, 3, H, W) between 0 and 1 -> hue, saturation, value (B, H, W), each between 0 and 1."""
    value, which = rgb.max(dim=1)
    spread = value - rgb.min(dim=1).values
    safe = spread.clamp(min=1e-8)
    r, g, b = rgb.unbind(1)
    sixth = torch.stack([(g - b) / safe, 2 + (b - r) / safe, 4 + (r - g) / safe], dim=1)
    hue = (sixth.gather(1, which.unsqueeze(1)).squeeze(1) / 6) % 1.0
    return hue, spread / value.clamp(min=1e-8), value


def _to_rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    def channel(n: int) -> Tensor:
        k = (n + hue * 6) % 6
        return value - value * saturation * torch.minimum(k, 4 - k).clamp(0, 1)

    return torch.stack([channel(5), channel(3), channel(1)], dim=1)
