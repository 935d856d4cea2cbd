"""Child processes of a command: a port for one, and its end; and the end that this process is asked for."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from conf.errors import UserError

# Airflow and Spark's server end their own children and connections first.
STOP_TIMEOUT_S = 30.0


def free_port(host: str = "127.0.0.1", port: int = 0, *, setting: str = "") -> int:
    """Return `port` if this machine can listen on it, or any free one for 0.

    The port is released again: another process can take it before the caller does.

    Raises:
        UserError: the port is in use; with `setting`, the message says how to choose another.
    """
    with socket.socket() as probe:
        # As servers do: a port whose last connections are in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            advice = f"; choose another: --set {setting}={port + 1}" if setting else ""
            raise UserError(f"can't listen on {host}:{port}: {error.strerror}{advice}") from None
        return int(probe.getsockname()[1])


@contextmanager
def utf8_locale() -> Iterator[None]:
    """Let a JVM that starts in the block open files whose names have letters beyond ASCII, under LC_ALL=C as well."""
    previous = os.environ.get("LC_ALL")
    locale = previous or os.environ.get("LC_CTYPE") or os.environ.get("LANG") or "C"
    # Java encodes names as the locale says, and Python's UTF-8 mode is not its own.
    if "utf" not in locale.lower():
        os.environ["LC_ALL"] = "C.UTF-8"
    try:
        yield
    finally:
        if previous is None:
            os.environ.pop("LC_ALL", None)
        else:
            os.environ["LC_ALL"] = previous


def stop_process(process: "subprocess.Popen[bytes]") -> None:
    """Send SIGTERM, and SIGKILL when the process has not ended within half a minute; returns when it has ended."""
    process.terminate()
    wait_or_kill(process)


def wait_or_kill(process: "subprocess.Popen[Any]", timeout_s: float = STOP_TIMEOUT_S) -> None:
    """Wait for a process that is ending by itself; kill it after `timeout_s` seconds, and wait for that."""
    try:
        process.wait(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()  # else it stays a zombie


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Yield a list that receives the SIGTERM or SIGINT sent to this process; while it is empty, go on.

    Inside the block the signals no longer end the process; the handlers before it are restored at its end.
    """
    # A handler that only takes note: raising in it could tear the work at hand, a commit to a metastore say.
    received: list[int] = []
    signals = (signal.SIGTERM, signal.SIGINT)
    previous = {number: signal.signal(number, lambda n, _: received.append(n)) for number in signals}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
