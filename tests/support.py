"""Helpers that tests import (through `pythonpath` in pyproject.toml): known data and ways to run commands."""

import contextlib
import io
import os
from pathlib import Path

import millrace as front

ROOT = Path(__file__).resolve().parent.parent


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
