"""Files of trained models in their libraries' own formats, with the SHA-256 of each in SHA256SUMS beside them.

A damaged LightGBM text ends the process by a signal, and damaged weights predict without an error: whoever loads a
model verifies its file first. `sha256sum -c SHA256SUMS` in the folder does the same.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from conf.atomic import file_digest, staged_file, write_atomically
from conf.errors import UserError

log = logging.getLogger(__name__)

CHECKSUMS = "SHA256SUMS"


def write_model_file(path: Path, data: str | bytes) -> None:
    """As `write_atomically`, and list its checksum in SHA256SUMS for `verify_model_file`.

    One process writes into a folder at a time.
    """
    with model_file(path) as out:
        out.write(data.encode() if isinstance(data, str) else data)


@contextmanager
def model_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write, as `write_model_file` writes it, for what is too large to be in memory as bytes."""
    with staged_file(path) as out:
        yield out
    # Files that are gone leave the list, or `sha256sum -c` would miss them.
    digests = {name: digest for name, digest in _digests(path.parent).items() if (path.parent / name).exists()}
    digests[path.name] = file_digest(path)
    lines = [f"{digest}  {name}\n" for name, digest in sorted(digests.items())]
    write_atomically(path.parent / CHECKSUMS, "".join(lines))


def verify_model_file(path: Path) -> bool:
    """Compare a file with its checksum, before a library reads it.

    Returns:
        Whether there is a checksum. Files of older versions have none: a warning says so, and they can be loaded.

    Raises:
        UserError: there is no such file, or it does not have its checksum.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing: train again")
    expected = _digests(path.parent).get(path.name)
    if expected is None:
        log.warning("%s has no checksum in %s: nothing tells whether it is as it was written", path, CHECKSUMS)
        return False
    if file_digest(path) != expected:
        raise UserError(f"{path} is corrupt: its checksum does not match; train again")
    return True


def _digests(folder: Path) -> dict[str, str]:
    """Checksum of each file that is listed in a folder's SHA256SUMS."""
    path = folder / CHECKSUMS
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    pairs = (line.split("  ", maxsplit=1) for line in lines if "  " in line)
    return {name: digest for digest, name in pairs}
