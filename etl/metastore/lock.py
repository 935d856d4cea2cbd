"""One process at a time on the embedded Derby metastore, with a clear message while waiting.

Derby refuses a second process with `ERROR XSDB6` and a page of stack. Here the second waits, and says for whom. The
holder's JVM counts too: after a kill -9 of the Python process its JVM lives on for a moment and still has Derby open.
"""

import json
import logging
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from conf import UserError

log = logging.getLogger(__name__)

POLL_S = 0.2
MESSAGE_S = 30.0  # between two messages while waiting


class MetastoreLock:
    """The lock of an embedded metastore's folder.

    The kernel frees the file lock when its process ends, however it ends. `lock.json` beside it says who holds it:
    pid, command and time for messages, and the JVM's pid, which later processes wait for.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._holder_file = folder / "lock.json"

    @contextmanager
    def hold(self, wait_s: float, *, jvm_outlives: bool = False) -> Iterator[None]:
        """Hold the lock inside the block, after waiting for it.

        Args:
            wait_s: seconds to wait for another process.
            jvm_outlives: the JVM goes on after the block; later processes then wait for its end.

        Raises:
            UserError: another process still holds the lock after `wait_s`; the message names it.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._folder / "lock")
        self._acquire(lock, wait_s)
        try:
            self._holder_file.write_text("", encoding="utf-8")  # that of a killed process
            self.record_jvm(None)  # none has started yet
            yield
        finally:
            # Emptied, not deleted: a process that waits may be reading it.
            if not jvm_outlives:
                self._holder_file.write_text("", encoding="utf-8")
            lock.release()

    def record_jvm(self, pid: int | None) -> None:
        """Record this process as the holder, and the JVM that has Derby open, for processes that come after a kill."""
        # UTC: the process that waits may have another zone.
        since = datetime.now(UTC).isoformat(timespec="seconds")
        holder = {
            "pid": os.getpid(),
            "jvm": pid,
            "command": command_name(sys.argv),
            "since": self._holder().get("since") or since,
        }
        self._holder_file.write_text(json.dumps(holder), encoding="utf-8")

    def _acquire(self, lock: FileLock, wait_s: float) -> None:
        started = time.monotonic()
        deadline, next_message = started + wait_s, started
        # By hand, not by filelock's own timeout: the JVM of the last holder is waited for as well.
        while not self._try_acquire(lock):
            if time.monotonic() >= deadline:
                lock.release()
                raise UserError(
                    f"the embedded metastore in {self._folder} is in use by {self._holder_text()}; waited {wait_s:g} s "
                    "(metastore.lock_wait_s). Wait for it, or end it"
                )
            if time.monotonic() >= next_message:
                waited = time.monotonic() - started
                log.info(
                    "waiting for the embedded metastore (%.0f of at most %g s): in use by %s",
                    waited,
                    wait_s,
                    self._holder_text(),
                )
                next_message += MESSAGE_S
            time.sleep(POLL_S)

    def _try_acquire(self, lock: FileLock) -> bool:
        """Take the file lock if it is free; whether the metastore is free as well, with the last holder's JVM gone."""
        if not lock.is_locked:
            try:
                lock.acquire(blocking=False)
            except Timeout:
                return False
        return not _is_running_jvm(self._holder().get("jvm"))

    def _holder_text(self) -> str:
        holder = self._holder()
        since = f" since {holder['since']}" if "since" in holder else ""
        return f"process {holder.get('pid', '?')} ({holder.get('command', 'unknown')}){since}"

    def _holder(self) -> dict[str, object]:
        try:
            holder: dict[str, object] = json.loads(self._holder_file.read_text(encoding="utf-8") or "{}")
        except (OSError, ValueError):  # not there yet, or half-written by its holder this moment
            return {}
        return holder


def command_name(arguments: Sequence[str]) -> str:
    """A command line by its program, area, verb and day: anybody may read the file, and other words may be secret."""
    words = [word for word in arguments[1:3] if re.fullmatch("[a-z][a-z_-]{0,30}", word)]
    days = [day for day in arguments[1:] if re.fullmatch(r"\d{4}-\d{2}-\d{2}", day)]
    return " ".join([Path(arguments[0]).name, *words, *days])


def _is_running_jvm(pid: object) -> bool:
    """Whether process `pid` runs Java: the kernel may have reused the number for another program."""
    if not isinstance(pid, int):
        return False
    # Linux alone has /proc; elsewhere the file lock is all there is.
    try:
        return b"java" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
