"""Write a file so that a reader sees the old or the new one, never a half; and notice when one was damaged."""

import hashlib
import os
from pathlib import Path

from conf.errors import UserError


def write_atomically(path: Path, data: str | bytes) -> None:
    """Replace the file at `path` by one that is whole and on disk; a write that fails (a full disk) leaves nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with staged.open("wb") as out:
            out.write(data.encode() if isinstance(data, str) else data)
            out.flush()
            os.fsync(out.fileno())
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)


def write_with_checksum(path: Path, data: bytes) -> None:
    """As `write_atomically`, with a checksum at the end."""
    write_atomically(path, data + hashlib.sha256(data).digest())


def read_with_checksum(path: Path) -> bytes:
    """What `write_checked` wrote. Raises UserError when it is not what was written."""
    raw = path.read_bytes()
    data, digest = raw[:-32], raw[-32:]
    if hashlib.sha256(data).digest() != digest:
        raise UserError(f"{path} is corrupt: its checksum does not fit; make it again")
    return data
