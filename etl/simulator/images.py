"""Cover images as small PNG files whose colour and pattern come from the topic."""

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from etl.simulator.world import World

SIZE = 16  # pixels, width and height


def write_covers(world: World, folder: Path) -> int:
    """Write one cover `i<number>.png` per item: the topic's colour, stripes by topic, and noise of the item's own.

    A model can learn the topic from the image, but no more than that.

    Returns:
        How many images were written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    palette = world.rng(500).integers(40, 216, (world.settings.topics, 3))  # (topics, RGB)
    rows, columns = np.indices((SIZE, SIZE))
    for item in range(world.num_items):
        topic = int(world.item_topic[item])
        stripes = ((rows * (topic % 3) + columns * (topic % 4 + 1)) // 3 % 2)[..., None] * 40  # (height, width, 1)
        noise = world.rng(501, item).integers(-15, 16, (SIZE, SIZE, 3))
        pixels = np.clip(palette[topic] + stripes + noise, 0, 255).astype(np.uint8)  # (height, width, 3)
        (folder / f"i{item}.png").write_bytes(_encode_png(pixels))
    return world.num_items


def _encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """An 8-bit RGB image (height, width, 3) as PNG; without an image library, whose bytes change with its version."""
    height, width, _ = pixels.shape
    raw = b"".join(b"\0" + pixels[row].tobytes() for row in range(height))  # filter type 0 before each scanline
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits a channel, colour type 2 (RGB)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")
    # Chunk layout: length, type, data, CRC-32 over type and data.
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
