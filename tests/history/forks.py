"""Run a job in a fork of this process, which has a warm Spark session, and be there when it is killed or frozen.

A start of Spark takes longer than a small stage. The fork has connections to the JVM of its own and shares nothing else
with this process; the JVM outlives it, as that of a killed command does for a moment: what it still works on is
cancelled and waited for.
"""

import gc
import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Literal

from history.points import Points, freeze_this_process, kill_this_process
from history.record import Outcome
from py4j import clientserver, java_gateway
from pyspark.sql import SparkSession

from conf.errors import error_line

LIMIT_S = 240.0
Act = Literal["kill", "freeze"]


@dataclass(frozen=True)
class End:
    """How a fork ended."""

    outcome: Outcome
    error: str = ""
    points: tuple[str, ...] = ()
    """The moments that it passed, if it ended by itself."""


def keep_connections() -> None:
    """Let forks leave alone the connections of this process's other threads, which end in a fork, and so would they."""
    owner = os.getpid()
    for module in (clientserver, java_gateway):
        shutdown = module.quiet_shutdown
        module.quiet_shutdown = lambda socket, shutdown=shutdown: shutdown(socket) if os.getpid() == owner else None


def run_forked(
    job: Callable[[], object],
    *,
    act: Act | None = None,
    at: int = 0,
    while_frozen: Callable[[], None] = lambda: None,
    forking: "threading.Lock | None" = None,
    in_main_thread: bool = False,
) -> End:
    """Run `job` in a fork; at its moment number `at` it is killed, or frozen until `while_frozen` returns.

    `forking` is a lock that other threads hold while they have locks of their own. Raises TimeoutError when it neither
    ends nor freezes.
    """
    reader, writer = os.pipe()
    with forking or nullcontext():
        pid = os.fork()
    if pid == 0:
        os.close(reader)
        _in_fork(job, act, at, writer, in_main_thread)
    os.close(writer)
    try:
        return _wait(pid, reader, while_frozen)
    finally:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(reader)


def drain(spark: SparkSession) -> None:
    """Cancel what a killed fork had the JVM do, and wait for its end, as for the end of a killed command's JVM."""
    context = spark.sparkContext
    context.cancelAllJobs()
    ends = time.monotonic() + LIMIT_S
    quiet = 0
    while quiet < 3 and time.monotonic() < ends:
        quiet = 0 if context.statusTracker().getActiveJobsIds() else quiet + 1
        time.sleep(0.05)
    spark.catalog.clearCache()


def _in_fork(job: Callable[[], object], act: Act | None, at: int, writer: int, in_main_thread: bool) -> None:
    """Never returns."""
    gc.freeze()  # objects of the process before are its own: their end here must not end them in the JVM
    gc.disable()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    points = Points(at, freeze_this_process if act == "freeze" else kill_this_process)
    result: dict[str, object] = {"outcome": "failed", "error": "nothing happened"}

    def work() -> None:
        try:
            points.install()
            job()
            result.update(outcome="done", error="")
        except BaseException as error:
            result.update(error=error_line(error) if isinstance(error, Exception) else type(error).__name__)

    if in_main_thread:  # where alone Python handles signals
        work()
    else:
        # py4j has a connection for each thread: a new thread does not write into one of the process before.
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    with os.fdopen(writer, "w") as out:
        json.dump({**result, "points": points.names}, out)
    os._exit(0)


def _wait(pid: int, reader: int, while_frozen: Callable[[], None]) -> End:
    ends = time.monotonic() + LIMIT_S
    text = b""
    while time.monotonic() < ends:
        if select.select([reader], [], [], 0.005)[0] and (part := os.read(reader, 1 << 16)):
            text += part
            continue
        done, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
        if not done:
            continue
        if os.WIFSTOPPED(status):
            try:
                while_frozen()
            finally:
                os.kill(pid, signal.SIGCONT)
            continue
        if os.WIFSIGNALED(status):
            return End("killed")
        # What it wrote after the last look, up to its end.
        while select.select([reader], [], [], 1)[0] and (part := os.read(reader, 1 << 16)):
            text += part
        values = json.loads(text)
        return End(values["outcome"], values["error"], tuple(values["points"]))
    print(f"fork {pid} hangs", file=sys.stderr)
    raise TimeoutError(f"a fork neither ended nor froze within {LIMIT_S:g} s")
