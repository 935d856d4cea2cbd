"""Replace a file or folder so that a reader sees the old or the new one, never a half; notice when one was damaged."""

import ctypes
import hashlib
import os
import re
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

from conf.errors import UserError

_STAGED = re.compile(r"\..+\.(\d+)")  # by `write_atomically`, with the id of its process
DIGEST_BYTES = hashlib.sha256().digest_size


def write_atomically(path: Path, data: str | bytes, *, private: bool = False) -> None:
    """Replace the file at `path` by one that is whole and on disk; a write that fails (a full disk) leaves nothing.

    A `private` file, which holds a secret, can be read by this user alone.
    """
    with staged_file(path, private=private) as out:
        out.write(data.encode() if isinstance(data, str) else data)


@contextmanager
def staged_file(path: Path, *, private: bool = False) -> Iterator[BinaryIO]:
    """A file to write, as `write_atomically` writes it: at the end of the block it replaces the one at `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, because a rename is atomic only within one file system; with the pid for writers in parallel.
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # Private from its first byte on: a change of the mode after the write would come too late.
        with open(staged, "wb", opener=partial(os.open, mode=0o600) if private else None) as out:
            yield out
            out.flush()
            os.fsync(out.fileno())  # else a power cut can leave the new name on an empty file
        staged.replace(path)
    finally:
        # Gone already after a successful rename; left over from a failed write, which may have filled the disk.
        staged.unlink(missing_ok=True)


def sync_folder(folder: Path, *, with_files: bool = False) -> None:
    """Bring the names in a folder to the disk, after renames and removals; `with_files`, its files before."""
    for path in [*(child for child in folder.iterdir() if with_files and child.is_file()), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sync_file_system(folder: Path) -> bool:
    """Bring all files of a folder's file system to the disk by one call; False where there is no such call."""
    library = ctypes.CDLL(None, use_errno=True)
    if sys.platform != "linux" or not hasattr(library, "syncfs"):
        return False
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        return bool(library.syncfs(descriptor) == 0)
    finally:
        os.close(descriptor)


def remove_staged(root: Path, *, older_than_s: float, skipped: Collection[str] = ()) -> int:
    """Remove what killed calls of `write_atomically` left below a folder, but for the folders `skipped` in it.

    A file stays while the process that writes it lives, or is younger than `older_than_s` seconds: it may be that of
    another machine.

    Returns:
        How many files.
    """
    removed = 0
    for folder, folders, names in os.walk(root):
        if folder == str(root):
            folders[:] = [name for name in folders if name not in skipped]
        for match in filter(None, map(_STAGED.fullmatch, names)):
            path = Path(folder, match[0])
            with suppress(FileNotFoundError):  # renamed or removed this moment
                is_old = time.time() - path.stat().st_mtime >= older_than_s
                if is_old and not Path(f"/proc/{match[1]}").exists():
                    path.unlink()
                    removed += 1
    return removed


def exchange(one: Path, other: Path) -> bool:
    """Let two files or folders have each other's name, in one step; False where the file system can't do that.

    A rename replaces a file, but no folder with content: to move the old one away first leaves readers without any.
    """
    library = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "linux" and hasattr(library, "renameat2"):
        current_folder, exchanged = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
        return not library.renameat2(current_folder, os.fsencode(one), current_folder, os.fsencode(other), exchanged)
    if sys.platform == "darwin":
        swapped = 2  # RENAME_SWAP
        return not library.renamex_np(os.fsencode(one), os.fsencode(other), swapped)
    return False


def file_digest(path: Path) -> str:
    """SHA-256 of a file of any size, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_with_checksum(path: Path, data: bytes) -> None:
    """As `write_atomically`, with the SHA-256 of `data` after it, for `read_with_checksum`.

    For models and checkpoints, which a damaged disk or a truncated copy would change without any error.
    """
    # After the data, not before: a file that was cut off has lost its checksum as well.
    digest = hashlib.sha256(data).digest()
    write_atomically(path, data + digest)


def read_with_checksum(path: Path) -> bytes:
    """Read what `write_with_checksum` wrote, without the checksum.

    Raises:
        UserError: the file is truncated or damaged.
    """
    raw = path.read_bytes()
    data, digest = raw[:-DIGEST_BYTES], raw[-DIGEST_BYTES:]
    if hashlib.sha256(data).digest() != digest:
        raise UserError(f"{path} is corrupt: its checksum does not match; create it again")
    return data
