"""The files that are followed, known again after rotation: renamed, copied and truncated, or compressed."""

import glob
import gzip
import hashlib
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

HEAD = 1024
TRIES = 100


class MovedError(OSError):
    """The file was renamed or deleted after it was seen."""


@dataclass
class Source:
    """One file and how far it was read. It is the file with this inode as long as it begins with the same bytes."""

    path: str
    device: int
    inode: int
    offset: int = 0
    head_length: int = 0
    head: str = ""
    hour: str = ""
    """`dt=…/hour=…` of its newest line: where a line without a time goes."""

    @property
    def is_gz(self) -> bool:
        return self.path.endswith(".gz")

    def open(self) -> IO[bytes]:
        """Raises MovedError when another file has the name now."""
        try:
            file = Path(self.path).open("rb")  # noqa: SIM115 (the caller closes it)
        except FileNotFoundError:
            raise MovedError(self.path) from None
        status = os.fstat(file.fileno())
        if (status.st_dev, status.st_ino) != (self.device, self.inode):
            file.close()
            raise MovedError(self.path)
        return gzip.GzipFile(fileobj=file) if self.is_gz else file  # type: ignore[return-value]

    def begins_as(self, other: "Source") -> bool:
        """Whether this file begins with the bytes that `other` was seen to begin with."""
        return other.head_length > 0 and _head(self, other.head_length) == other.head

    def note_head(self) -> None:
        """Remember the first bytes, more of them as the file grows."""
        length = min(self.offset, HEAD)
        if self.head_length < length:
            with suppress(MovedError):  # later, under its new name
                self.head, self.head_length = _head(self, length), length

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def _head(source: Source, length: int) -> str:
    try:
        with source.open() as file:
            data = file.read(length)
    except MovedError:
        raise
    except (OSError, EOFError):  # not ours to read, or a .gz still being written
        return ""
    return hashlib.sha256(data).hexdigest() if len(data) == length else ""


def look(patterns: Sequence[str], known: Iterable[Source]) -> list[Source]:
    """The files that there are now, those of `known` with how far they were read."""
    known = list(known)
    for _ in range(TRIES):
        try:
            return _look(patterns, known)
        except MovedError:  # rotated while we looked: look again
            continue
    return known


def _look(patterns: Sequence[str], known: Iterable[Source]) -> list[Source]:
    remaining = {(source.device, source.inode): source for source in known}
    found: list[Source] = []
    fresh: list[Source] = []
    for path in _matching(patterns):
        seen = _stat(path)
        before = remaining.get((seen.device, seen.inode))
        if before is not None and _is_same(seen, before):
            before.path = path
            found.append(remaining.pop((seen.device, seen.inode)))
        else:
            fresh.append(seen)
    found += [source for key in list(remaining) if (source := _renamed(remaining[key])) and remaining.pop(key)]
    for source in fresh:
        before = next((old for old in remaining.values() if _is_rotated(source, old)), None)
        if before is not None:  # a copy of what was truncated or deleted since: its tail is still to be read
            del remaining[before.device, before.inode]
            source.offset, source.hour = before.offset, before.hour
            source.head, source.head_length = before.head, before.head_length
        elif any(_is_rotated(source, old) for old in found) or (source.is_gz and not _head(source, 1)):
            continue  # a copy of a file that is followed, or a .gz that is still being written
        found.append(source)
    return found


def _matching(patterns: Sequence[str]) -> list[str]:
    paths = {os.path.realpath(path) for pattern in patterns for path in glob.glob(pattern)}
    return sorted(path for path in paths if os.path.isfile(path))


def _stat(path: str) -> Source:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise MovedError(path) from None
    return Source(path, status.st_dev, status.st_ino)


def _is_same(seen: Source, before: Source) -> bool:
    """Not truncated since, and not a new file under an old number."""
    if not seen.is_gz:
        with seen.open() as file:
            if os.fstat(file.fileno()).st_size < before.offset:
                return False
    return before.head_length == 0 or seen.begins_as(before)


def _renamed(source: Source) -> Source | None:
    """The same file under a name that no pattern matches; it may still have lines to read."""
    folder = Path(source.path).parent
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return None
    for entry in entries:
        if entry.inode() == source.inode and entry.is_file() and not entry.name.endswith(".gz"):
            seen = _stat(entry.path)
            if (seen.device, seen.inode) == (source.device, source.inode) and _is_same(seen, source):
                source.path = entry.path
                return source
    return None


def _is_rotated(source: Source, old: Source) -> bool:
    """access.log.1, access.log-20260107, access.log.2.gz … beside access.log, with the same beginning."""
    stem = os.path.basename(old.path).removesuffix(".gz").rstrip("0123456789").rstrip(".-_")
    beside = os.path.dirname(source.path) == os.path.dirname(old.path)
    return beside and bool(stem) and os.path.basename(source.path).startswith(stem) and source.begins_as(old)
