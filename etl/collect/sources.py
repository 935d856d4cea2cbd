"""The followed files, recognised again after rotation: renamed, copied and truncated, or compressed."""

import glob
import gzip
import hashlib
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

HEAD_BYTES = 1024
MAX_ATTEMPTS = 100


class MovedError(OSError):
    """The file was renamed or deleted after it was listed."""


@dataclass
class Source:
    """One file and how far it was read, as it is in the state file.

    An inode number is used again after a file was deleted: it is the same file only as long as it also begins with the
    same bytes.
    """

    path: str
    device: int
    inode: int
    offset: int = 0  # bytes; of the uncompressed content of a .gz
    head_length: int = 0  # bytes that `head` was computed from
    head: str = ""  # SHA-256 of the first bytes
    hour: str = ""  # `dt=…/hour=…` of its newest line: where a line without a time goes

    @property
    def is_gz(self) -> bool:
        """Whether the content is compressed."""
        return self.path.endswith(".gz")

    def open(self) -> IO[bytes]:
        """The uncompressed content, for the caller to close.

        Raises:
            MovedError: if another file has the name by now, or none.
        """
        try:
            file = Path(self.path).open("rb")  # noqa: SIM115 (the caller closes it)
        except FileNotFoundError:
            raise MovedError(self.path) from None
        # The open file is asked, not the name: that may change between the two.
        status = os.fstat(file.fileno())
        if (status.st_dev, status.st_ino) != (self.device, self.inode):
            file.close()
            raise MovedError(self.path)
        return gzip.GzipFile(fileobj=file) if self.is_gz else file  # type: ignore[return-value]

    def begins_as(self, other: "Source") -> bool:
        """Whether this file begins with the bytes that `other` began with when it was last read."""
        return other.head_length > 0 and _hash_head(self, other.head_length) == other.head

    def update_head(self) -> None:
        """Take in more of the first bytes, as long as fewer than `HEAD_BYTES` were read."""
        length = min(self.offset, HEAD_BYTES)
        if self.head_length < length:
            with suppress(MovedError):  # later, under its new name
                self.head, self.head_length = _hash_head(self, length), length


def find_sources(patterns: Sequence[str], sources: Iterable[Source]) -> list[Source]:
    """List the files that match and those that were followed before, each with its offset.

    Args:
        patterns: glob patterns.
        sources: the files followed so far. Their paths are updated.

    Returns:
        Files to read, followed ones first. `sources` as they are, if files keep being renamed while they are listed.
    """
    followed = list(sources)
    retrying = Retrying(
        retry=retry_if_exception_type(MovedError),  # rotated while we listed
        stop=stop_after_attempt(MAX_ATTEMPTS),
        retry_error_callback=lambda _: followed,
    )
    return retrying(_match_files, patterns, followed)


def _match_files(patterns: Sequence[str], followed: Iterable[Source]) -> list[Source]:
    remaining = {(source.device, source.inode): source for source in followed}
    matched: list[Source] = []
    unknown: list[Source] = []
    for path in _matching_paths(patterns):
        candidate = _source_at(path)
        previous = remaining.get((candidate.device, candidate.inode))
        if previous is not None and _is_continued(candidate, previous):
            previous.path = path
            matched.append(remaining.pop((candidate.device, candidate.inode)))
        else:
            unknown.append(candidate)
    for key, source in list(remaining.items()):
        if _follow_rename(source):
            matched.append(remaining.pop(key))
    for candidate in unknown:
        previous = next((source for source in remaining.values() if _is_rotated(candidate, source)), None)
        if previous is not None:  # a copy of what was truncated or deleted since: its tail is still to be read
            del remaining[previous.device, previous.inode]
            candidate.offset, candidate.hour = previous.offset, previous.hour
            candidate.head, candidate.head_length = previous.head, previous.head_length
        elif any(_is_rotated(candidate, source) for source in matched):
            continue  # a copy of a file that is followed
        elif candidate.is_gz and not _hash_head(candidate, 1):
            continue  # still being written
        matched.append(candidate)
    return matched


def _matching_paths(patterns: Sequence[str]) -> list[str]:
    """Distinct regular files, without links: two names of one file are one source."""
    paths = {os.path.realpath(path) for pattern in patterns for path in glob.glob(pattern)}
    return sorted(path for path in paths if os.path.isfile(path))


def _source_at(path: str) -> Source:
    try:
        status = Path(path).stat()
    except FileNotFoundError:
        raise MovedError(path) from None
    return Source(path, status.st_dev, status.st_ino)


def _is_continued(candidate: Source, previous: Source) -> bool:
    """Whether a file is the followed one of its inode: not truncated since, and not a new file with an old number."""
    if not candidate.is_gz:
        with candidate.open() as file:
            if os.fstat(file.fileno()).st_size < previous.offset:
                return False
    return previous.head_length == 0 or candidate.begins_as(previous)


def _follow_rename(source: Source) -> bool:
    """Find a followed file under a name that no pattern matches, in its folder: it may still have lines to read."""
    folder = Path(source.path).parent
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return False
    for entry in entries:
        if entry.inode() == source.inode and entry.is_file() and not entry.name.endswith(".gz"):
            candidate = _source_at(entry.path)
            is_same_file = (candidate.device, candidate.inode) == (source.device, source.inode)
            if is_same_file and _is_continued(candidate, source):
                source.path = entry.path
                return True
    return False


def _is_rotated(candidate: Source, source: Source) -> bool:
    """Whether a file is a rotated copy: access.log.1, access.log-20260107, access.log.2.gz …, with the same head."""
    path, original = Path(candidate.path), Path(source.path)
    stem = original.name.removesuffix(".gz").rstrip("0123456789").rstrip(".-_")
    is_beside = path.parent == original.parent
    return is_beside and bool(stem) and path.name.startswith(stem) and candidate.begins_as(source)


def _hash_head(source: Source, length: int) -> str:
    """SHA-256 of the first `length` bytes; empty when there are fewer, or none can be read."""
    try:
        with source.open() as file:
            data = file.read(length)
    except MovedError:
        raise
    except (OSError, EOFError):  # no permission, or a .gz still being written
        return ""
    return hashlib.sha256(data).hexdigest() if len(data) == length else ""
