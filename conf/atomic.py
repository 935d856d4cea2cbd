"""Write a file so that a reader sees the old or the new one, never a half."""

import os
from pathlib import Path


def write_atomically(path: Path, text: str) -> None:
    """Replace the file at `path` by one that is whole and on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    with staged.open("w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    staged.replace(path)
