"""Helpers that tests import (through `pythonpath` in pyproject.toml): known data and ways to run commands."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer
from engines.listeners import nothing_reachable

import millrace as front

ROOT = Path(__file__).resolve().parent.parent
# For days of some thousand rows.
SMALL = {"MILLRACE__SPARK__DRIVER_MEMORY": "2g", "MILLRACE__SPARK__COMPILE_LITTLE": "true"}
FEW_CHANNELS = {"MILLRACE__RECALL__QUOTA": "{ease: 40, hot: 40}"}


def run_front_door(*arguments: str, home: object = None) -> tuple[int, str, str]:
    """Run a command line in this process: exit code, stdout, stderr."""
    out, err = io.StringIO(), io.StringIO()
    before = os.environ.get("MILLRACE_HOME")
    if home is not None:
        os.environ["MILLRACE_HOME"] = str(home)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = front.run_command(arguments)
            except SystemExit as stop:
                code = int(stop.code or 0)
    finally:
        if home is not None:
            os.environ.pop("MILLRACE_HOME")
            if before is not None:
                os.environ["MILLRACE_HOME"] = before
    return code, out.getvalue(), err.getvalue()


def parse_command(words: Sequence[str]) -> None:
    """Read a command line of `millrace` as the front door does, and run nothing. Raises Click's error for a mistake."""
    arguments, _ = front.split_common_options(list(words))
    area, *rest = arguments
    module, name = front.AREAS[area][0].split(":")
    command = typer.main.get_command(getattr(import_module(module), name))
    if hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    command.make_context(area, rest)


class Millrace:
    """Runs `millrace …` as a user does, in its own process and home."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def __call__(self, *arguments: str, timeout: float = 1000, **environment: str) -> subprocess.CompletedProcess[str]:
        return self._run([str(Path(sys.executable).parent / "millrace"), *arguments], timeout, environment)

    def in_one_session(self, *lines: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Command lines up to the first that fails, on one Spark session, as `millrace run` runs the stages of a day.

        A start of Spark costs as much as the work of a small command.
        """
        return self._run([sys.executable, "-c", _IN_ONE_SESSION, *lines], 1000, environment)

    def script(self, path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """A Python script of the tests, in a process of its own."""
        return self._run([sys.executable, str(path)], 300, {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", **environment})

    def _run(self, command: list[str], timeout: float, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        variables = {**os.environ, **SMALL, **environment, "MILLRACE_HOME": str(self.home)}
        variables.pop("OMP_NUM_THREADS", None)  # the test processes' own: a user's command has all threads
        return subprocess.run(
            command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=timeout, check=False
        )


_IN_ONE_SESSION = """
import shlex, sys
from conf import load
from etl.session import spark_session
import millrace

with spark_session(load()):
    sys.exit(next(filter(None, (millrace.run_command(shlex.split(line)) for line in sys.argv[1:])), 0))
"""


# Enough to learn from in a minute: six small epochs on a small day.
DEMO_SETTINGS = ("--set", "train.epochs=6", "--set", "train.batch_size=256", "--set", "recall.als_rank=16")


@dataclass(frozen=True)
class FinishedDay:
    """What `millrace demo` left: its home, its day, and the line that it printed."""

    millrace: Millrace
    day: str
    counts: dict[str, Any]


def demo(millrace: Millrace) -> FinishedDay:
    """A generated half week and the whole of its last day."""
    with nothing_reachable():
        done = millrace("demo", "--days", "4", "--scale", "0.1", *DEMO_SETTINGS)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(done.stdout.strip().splitlines()) == 1
    return FinishedDay(millrace, "2026-01-04", json.loads(done.stdout))


def chromium_dom(path: Path) -> str:
    """The page's HTML after its scripts have run in a real browser, which complained of nothing."""
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not installed (`make test` as root installs it)")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=30000"]
    command += ["--enable-logging=stderr", "--v=0", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "CONSOLE" not in done.stderr, done.stderr[-2000:]
    return done.stdout
