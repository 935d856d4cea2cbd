"""A real Redis server of the tests' own."""

import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from conf.machine.processes import free_port

PASSWORD = "p@ss:word"


class RedisServer:
    """A server that keeps nothing on disk, on a port of its own, which stays its when it is started again."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("redis-server") is None:
            pytest.skip("redis-server is not installed (`make test` as root installs it)")
        self._folder, self.port = folder, free_port()
        self.start()

    @property
    def url(self) -> str:
        return f"redis://:p%40ss%3Aword@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir"]
        command += [str(self._folder), "--requirepass", PASSWORD]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert time.monotonic() < deadline, "Redis does not start"
                time.sleep(0.02)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(timeout=20)
