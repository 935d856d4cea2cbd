"""Moments of a stage at which it can be killed or frozen: every change of a file, and every call that changes a table.

A stage runs in a fork of a process with a warm Spark session; at the chosen moment it kills or stops itself. A real
kill comes at any of these moments or between two; within a call to Java it is the processes of `commands.py` that die.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from py4j import clientserver

FILE_EVENTS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"}
# Methods of Java that write: of Spark's writers, the metastore, Hadoop's file systems and JDBC.
CALLS = {"sql", "parquet", "csv", "text", "alterPartitions", "create", "delete", "rename", "mkdirs"} | {
    "executeUpdate", "execute", "commit", "rollback", "movePartitions", "addPartitions"
}  # fmt: skip


JOURNAL = "of the journal of swaps"


@dataclass
class Points:
    """Counts the moments of this process; calls `act` with the name of the one with the number `at`."""

    at: int
    act: Callable[[str], None]
    names: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def install(self) -> None:
        """From now on until the process ends: an audit hook can't be removed."""
        sys.addaudithook(self._on_event)
        send = clientserver.ClientServerConnection.send_command

        def counted(connection: Any, command: str) -> Any:
            words = command.split("\n", 3)
            is_change = words[0] == "c" and len(words) > 2 and words[2] in CALLS
            if is_change:
                self._pass(f"before {words[2]}")
            answer = send(connection, command)
            if is_change:
                self._pass(f"after {words[2]}")
            return answer

        clientserver.ClientServerConnection.send_command = counted

    def _on_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in FILE_EVENTS:
            is_journal = any(str(path).endswith("/swaps.json") for path in arguments[:2])
            self._pass(f"{event} {JOURNAL}" if is_journal else event)
        elif event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
            self._pass("open to write")

    def _pass(self, name: str) -> None:
        with self._lock:
            self.names.append(name)
            is_chosen = len(self.names) == self.at
        if is_chosen:
            self.act(name)


def kill_this_process(_: str) -> None:
    """The end of the process, as by `kill -9`."""
    os.kill(os.getpid(), signal.SIGKILL)


def freeze_this_process(_: str) -> None:
    """A stop until somebody sends SIGCONT."""
    os.kill(os.getpid(), signal.SIGSTOP)
