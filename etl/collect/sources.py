"""One followed log file: how far it was read, and the bytes that it is recognised by after a rotation."""

import gzip
import hashlib
import os
import time
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

HEAD_BYTES = 1024  # also the length of the tail
BLOCK_BYTES = 1 << 16

# What reading a log may raise: no permission, a damaged .gz (zlib's error is no OSError), one still being written.
READ_ERRORS = (OSError, EOFError, zlib.error)


class MovedError(OSError):
    """The file was renamed, deleted or truncated after it was listed."""


@dataclass
class Source:
    """One file and how far it was read, as it is in the state file.

    An inode number is used again after a file was deleted, and a truncated file grows again: it is the same file only
    as long as it begins with the same bytes and has the same bytes before the offset.
    """

    path: str
    device: int
    inode: int
    offset: int = 0  # bytes; of the uncompressed content of a .gz
    head_length: int = 0  # bytes that `head` was computed from
    head: str = ""  # SHA-256 of the first bytes
    hour: str = ""  # `dt=…/hour=…` of its newest line with a time: where a line without one goes
    changed_hour: str = ""  # `dt=…/hour=…` of the file's last change: where a line goes before any has a time
    tail: str = ""  # SHA-256 of the last bytes before the offset; empty in the state of an older release
    crc: int | None = None  # CRC-32 of all bytes before the offset, for a copy to agree with; None as for `tail`
    stamp: str = ""  # size and time of a .gz that was read to its end: to check its bytes it has to be uncompressed
    gone_at: float = 0.0  # when it was found deleted or truncated; 0 while it is followed

    @property
    def key(self) -> tuple[int, int]:
        """What the file system knows the file by."""
        return self.device, self.inode

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
        if (status.st_dev, status.st_ino) != self.key:
            file.close()
            raise MovedError(self.path)
        return gzip.GzipFile(fileobj=file) if self.is_gz else file  # type: ignore[return-value]

    def is_continued(self) -> bool:
        """Whether the file of this path and inode still has what was read of it: not truncated, not a new file.

        Raises:
            MovedError: if another file has the name by now, or none.
            OSError: it can't be read, as READ_ERRORS.
        """
        with self.open() as file:
            if self.is_gz and self.crc is not None:
                return stamp_of(file) == self.stamp or crc_of(file, self.offset) == self.crc
            if not self.is_gz and os.fstat(file.fileno()).st_size < self.offset:
                return False
            if self.head_length and digest_of(file.read(self.head_length)) != self.head:
                return False
            if self.tail:
                file.seek(max(0, self.offset - HEAD_BYTES))
                return digest_of(file.read(min(self.offset, HEAD_BYTES))) == self.tail
            return True

    def read_lines(self, batch_bytes: int, idle_s: float) -> list[bytes]:
        """Whole lines from the offset, which moves on; an unfinished last line waits for its end.

        Args:
            batch_bytes: how much is read; more, if a line is longer.
            idle_s: an unfinished last line is returned when the file has not changed for this many seconds.

        Raises:
            MovedError: the file was moved or truncated since it was listed.
            OSError: it can't be read, as READ_ERRORS.
        """
        with self.open() as file:
            stamp = stamp_of(file)
            if self.is_gz and stamp == self.stamp:  # read to its end; to look for more it would have to be uncompressed
                return []
            if self.crc is None:
                self.crc = crc_of(file, self.offset)
            # The tail comes in one read with what follows it, so that no truncation gets between check and use.
            tail_length = min(self.offset, HEAD_BYTES)
            file.seek(self.offset - tail_length)
            data = file.read(tail_length + batch_bytes)
            tail, data = data[:tail_length], data[tail_length:]
            if self.crc is None or (self.tail and digest_of(tail) != self.tail):
                raise MovedError(self.path)
            is_end = len(data) < batch_bytes
            while data and not is_end and b"\n" not in data:  # a line longer than a batch
                more = file.read(batch_bytes)
                data, is_end = data + more, not more
            # Whether an unfinished last line will hardly be finished. A .gz is never written to again.
            modified_at = os.fstat(file.fileno()).st_mtime
            is_idle = self.is_gz or time.time() - modified_at >= idle_s
        end = data.rfind(b"\n") + 1
        lines = [line + b"\n" for line in data[:end].split(b"\n")[:-1]]
        if is_end and is_idle and end < len(data):
            lines.append(data[end:] + b"\n")
            end = len(data)
        self.changed_hour = f"{datetime.fromtimestamp(modified_at, UTC):dt=%Y-%m-%d/hour=%H}"
        self._advance(tail, data[:end])
        self.stamp = stamp if self.is_gz and is_end else ""
        return lines

    def _advance(self, tail: bytes, data: bytes) -> None:
        """Move the offset over `data`, which follows the bytes `tail` of the file."""
        if self.offset <= HEAD_BYTES:  # then `tail` is all that was read so far
            head = (tail + data)[:HEAD_BYTES]
            self.head, self.head_length = digest_of(head), len(head)
        self.crc = zlib.crc32(data, self.crc or 0)
        self.offset += len(data)
        self.tail = digest_of((tail + data)[-HEAD_BYTES:]) if self.offset else ""


def digest_of(data: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def crc_of(file: IO[bytes], length: int) -> int | None:
    """CRC-32 of the first `length` bytes; None when there are fewer. Raises READ_ERRORS."""
    # A CRC goes on from where it was, so that it is stored as one number; SHA-256 would have to be computed anew from
    # the first byte after each start. Collisions don't count: only files with the same head are compared by it.
    file.seek(0)
    crc, remaining = 0, length
    while remaining:
        block = file.read(min(BLOCK_BYTES, remaining))
        if not block:
            return None
        crc, remaining = zlib.crc32(block, crc), remaining - len(block)
    return crc


def stamp_of(file: IO[bytes]) -> str:
    """Size and time of change: when both are the same, so is the content."""
    status = os.fstat(file.fileno())
    return f"{status.st_size}-{status.st_mtime_ns}"
