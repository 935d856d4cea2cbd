"""Processes that a command starts beside itself: a port for one, and its end."""

import socket
import subprocess
from typing import Any

from conf.errors import UserError

ENDS_WITHIN_S = 30.0


def free_port(host: str = "127.0.0.1", port: int = 0, *, setting: str = "") -> int:
    """`port` if it can be listened on, or a free one for 0. Raises UserError that names the setting to change."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            advice = f"; take another: --set {setting}={port + 1}" if setting else ""
            raise UserError(f"can't listen on {host}:{port}: {error.strerror}{advice}") from None
        return int(probe.getsockname()[1])


def stop_process(process: "subprocess.Popen[bytes]") -> None:
    """Ask it to end, and kill it when it has not within half a minute."""
    process.terminate()
    wait_or_kill(process)


def wait_or_kill(process: "subprocess.Popen[Any]", within_s: float = ENDS_WITHIN_S) -> None:
    """Give a process that is ending half a minute, or `within_s`."""
    try:
        process.wait(timeout=within_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
