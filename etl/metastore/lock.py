"""One process at a time on the embedded Derby metastore, with a clear message while waiting.

Derby answers a second process with `ERROR XSDB6` and a page of stack. Here the second waits, and says for whom. The
lock names the JVM too: after a kill -9 of the Python process its JVM lives on for a moment and still holds Derby.
"""

import fcntl
import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from conf import UserError

log = logging.getLogger(__name__)

POLL_S = 0.2


class MetastoreLock:
    """Held while `held()` runs; `note_jvm` tells later processes whom to wait for."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "lock.json"

    @contextmanager
    def held(self, wait_s: float, *, outlived: bool = False) -> Iterator["MetastoreLock"]:
        """Wait up to `wait_s` seconds for the lock. Raises UserError that names the holder after that.

        Where the JVM outlives the block, later processes wait for its end.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a+", encoding="utf-8") as file:
            self._acquire(file, time.monotonic() + wait_s, wait_s)
            self._write(file, jvm=None)
            self._file = file
            try:
                yield self
            finally:
                if not outlived:
                    file.truncate(0)

    def note_jvm(self, pid: int) -> None:
        self._write(self._file, jvm=pid)

    def _acquire(self, file: TextIO, deadline: float, wait_s: float) -> None:
        told = False
        while not (_try_flock(file) and not _is_alive(self._holder().get("jvm"))):
            holder = self._holder()
            who = f"process {holder.get('pid', '?')} ({holder.get('command', 'unknown')})"
            if time.monotonic() >= deadline:
                raise UserError(
                    f"the embedded metastore in {self._path.parent} is in use by {who}; waited {wait_s:g} s "
                    "(metastore.lock_wait_s). Wait for it, or end it"
                )
            if not told:
                log.info("waiting for the embedded metastore: in use by %s", who)
                told = True
            time.sleep(POLL_S)

    def _holder(self) -> dict[str, object]:
        try:
            holder: dict[str, object] = json.loads(self._path.read_text(encoding="utf-8") or "{}")
        except (OSError, ValueError):
            return {}
        return holder

    def _write(self, file: TextIO, *, jvm: int | None) -> None:
        command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200]
        file.truncate(0)
        json.dump({"pid": os.getpid(), "jvm": jvm, "command": command}, file)
        file.flush()


def _try_flock(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_alive(pid: object) -> bool:
    """Whether the JVM that last held the metastore still runs (as Java: the number may have been given anew)."""
    if not isinstance(pid, int):
        return False
    try:
        return b"java" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
