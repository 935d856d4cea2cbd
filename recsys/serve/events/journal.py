"""The journal of accepted events: one file that all workers append to and read, durable before an event is answered.

serving/journal/
  id              names the journal in landed files
  00000001.log    a segment: JSON lines; the one with the highest number grows, others are about to land
  00000000.landed one that has landed, for readers that are behind
  lock            held for an append, and to begin a new segment
"""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from conf.atomic import write_atomically

ID, LOCK, SUFFIX, LANDED = "id", "lock", ".log", ".landed"
READ_BYTES = 4 << 20


def segments(folder: Path) -> list[int]:
    """Numbers of the segments, ascending."""
    return sorted(int(path.stem) for path in folder.glob(f"*{SUFFIX}"))


def segment_path(folder: Path, number: int) -> Path:
    """The file of a segment."""
    return folder / f"{number:08d}{SUFFIX}"


def open_folder(folder: Path) -> None:
    """Create the journal, where there is none yet."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LOCK).touch()
    if not (folder / ID).exists():
        write_atomically(folder / ID, secrets.token_hex(4))
    if not segments(folder):
        with locked(folder):
            begin_segment(folder, 1)


def begin_segment(folder: Path, number: int) -> None:
    """Begin a segment, which outlasts a power cut; the caller holds the lock."""
    segment_path(folder, number).touch()
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the journal's lock, which the kernel frees when this process dies."""
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class Writer:
    """Appends to the newest segment."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 0
        self._file = -1

    def append(self, lines: bytes) -> None:
        """Append whole lines, and return when they are on disk.

        Raises:
            OSError: the disk is full or fails; the lines may or may not be there.
        """
        with locked(self._folder):
            self._open_newest()
            end = os.fstat(self._file).st_size
            # What a killed writer has left of a line must not swallow the next one.
            is_torn = end > 0 and os.pread(self._file, 1, end - 1) != b"\n"
            data = memoryview(b"\n" + lines if is_torn else lines)
            while data:
                data = data[os.write(self._file, data) :]
        # Outside of the lock: other writers' lines get to the disk by the same call.
        os.fsync(self._file)

    def _open_newest(self) -> None:
        newest = max(self._number, 1)
        while segment_path(self._folder, newest + 1).exists():
            newest += 1
        if not segment_path(self._folder, newest).exists():
            newest = segments(self._folder)[-1]
        if newest != self._number:
            if self._file >= 0:
                os.close(self._file)
            flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
            self._file, self._number = os.open(segment_path(self._folder, newest), flags), newest


class Reader:
    """Reads all lines once, in the order of the file, whoever has appended them.

    Args:
        folder: of the journal.
        number: the segment to begin with.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self._folder, self._number, self._offset = folder, number, 0
        # A file object, and no descriptor: it is closed with the reader, whoever used that last.
        self._file = segment_path(folder, number).open("rb", buffering=0)
        self._next = self._paths_after(number)

    def poll(self) -> list[bytes]:
        """The lines since the last call; three system calls when there is none."""
        lines: list[bytes] = []
        while True:
            # In this order: after the next segment was begun, nobody appends to this one.
            following = next((path for path in self._next if os.path.exists(path)), None)
            if os.fstat(self._file.fileno()).st_size > self._offset:
                lines += self._read()
            if following is None:
                return lines
            with suppress(FileNotFoundError):  # it has landed since: found by its other name in the next round
                self._file = Path(following).open("rb", buffering=0)  # noqa: SIM115 (read from until the next one)
                self._offset, self._number = 0, self._number + 1
                self._next = self._paths_after(self._number)

    def _paths_after(self, number: int) -> tuple[str, str]:
        path = segment_path(self._folder, number + 1)
        return str(path), str(path.with_suffix(LANDED))

    def _read(self) -> list[bytes]:
        lines: list[bytes] = []
        while data := os.pread(self._file.fileno(), READ_BYTES, self._offset):
            end = data.rfind(b"\n") + 1
            if not end:  # the line is still being written; no event is as long as a block
                break
            self._offset += end
            lines += [line for line in data[:end].split(b"\n") if line]
        return lines
