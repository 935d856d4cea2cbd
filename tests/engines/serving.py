"""`millrace serve` in a process of its own, and what its clients ask of it."""

import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engines.listeners import nothing_reachable, tree
from support import ROOT, FinishedDay


def copied(finished_day: FinishedDay, home: Path) -> Path:
    """A home with the day's runs and data sets, whose server and promotions nobody else meets."""
    for name in ("runs", "datasets"):
        shutil.copytree(finished_day.millrace.home / name, home / name, copy_function=os.link)
    return home


class Server:
    """The running server, as its clients see it."""

    def __init__(self, process: "subprocess.Popen[str]", home: Path) -> None:
        self.process, self._path = process, home / "serving" / "server.json"

    @property
    def about(self) -> dict[str, Any]:
        return dict(json.loads(self._path.read_text()))

    @property
    def port(self) -> int:
        return int(self.about["url"].rsplit(":", 1)[1])

    def ask(
        self, path: str, body: Any = None, headers: dict[str, str] | None = None, timeout: float = 20
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, parsed answer and headers, on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
            connection.request("GET" if data is None else "POST", path, data, headers or {})
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        is_json = "json" in (answer.getheader("content-type") or "")
        return (
            answer.status,
            json.loads(text) if is_json else text.decode(),
            {k.lower(): v for k, v in answer.getheaders()},
        )

    def items(self, user: str, n: int = 10) -> list[str]:
        status, answer, _ = self.ask("/v1/recommend", {"user": user, "n": n})
        assert status == 200, answer
        return [item["item"] for item in answer["items"]]


@contextmanager
def serving(home: Path, *settings: str, workers: int = 1, start_s: float = 60, **environment: str) -> Iterator[Server]:
    command = [str(Path(sys.executable).parent / "millrace"), "serve", "--port", "0", "--workers", str(workers)]
    command += [word for setting in settings for word in ("--set", setting)]
    variables = {
        **os.environ,
        "MILLRACE_HOME": str(home),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        **environment,
    }
    process = subprocess.Popen(
        command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    server = Server(process, home)
    try:
        with nothing_reachable(lambda: tree(process.pid)):
            wait_until(lambda: process.poll() is not None or is_ready(server), start_s)
            assert process.poll() is None, process.communicate()[1]
            yield server
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        finally:
            process.kill()


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


def is_ready(server: Server) -> bool:
    try:
        return server.ask("/health/ready")[0] == 200
    except (OSError, ValueError, http.client.HTTPException):
        return False
