"""Cover images as small PNG files whose colour and pattern come from the topic."""

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from etl.simulator.world import World

SIZE = 16


def write_covers(world: World, folder: Path) -> int:
    """One `i<number>.png` an item; returns how many."""
    folder.mkdir(parents=True, exist_ok=True)
    palette = world.rng(500).integers(40, 216, (world.settings.topics, 3))
    rows, columns = np.indices((SIZE, SIZE))
    for item in range(world.num_items):
        topic = int(world.item_topic[item])
        stripes = ((rows * (topic % 3) + columns * (topic % 4 + 1)) // 3 % 2)[..., None] * 40
        noise = world.rng(501, item).integers(-15, 16, (SIZE, SIZE, 3))
        pixels = np.clip(palette[topic] + stripes + noise, 0, 255).astype(np.uint8)
        (folder / f"i{item}.png").write_bytes(_png(pixels))
    return world.num_items


def _png(pixels: NDArray[np.uint8]) -> bytes:
    """An 8-bit RGB image (height, width, 3) as PNG."""
    height, width, _ = pixels.shape
    raw = b"".join(b"\0" + pixels[row].tobytes() for row in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
