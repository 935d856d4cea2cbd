"""A line of `millrace doctor`, and running all of them side by side."""

import logging
import subprocess
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from conf import Config, UserError
from conf.errors import error_line

log = logging.getLogger(__name__)

Level = Literal["ok", "warning", "missing"]


@dataclass(frozen=True)
class Check:
    """What one line says: how it is, and what to do where it is not as commands need it."""

    level: Level
    text: str
    cure: str = ""


Checker = Callable[[Config], Check]
"""Looks at one thing, in seconds; what it raises becomes a line, too."""


def run_all(config: Config, checkers: Mapping[str, Checker]) -> dict[str, Check]:
    """Run all checks in threads, for most wait for a program or a server; returns them by name, in order."""
    with ThreadPoolExecutor(max_workers=len(checkers)) as pool:
        futures = {name: pool.submit(_run, checker, config) for name, checker in checkers.items()}
        return {name: future.result() for name, future in futures.items()}


def _run(checker: Checker, config: Config) -> Check:
    try:
        return checker(config)
    except UserError as error:
        return Check("missing", error_line(error))
    except subprocess.TimeoutExpired as error:  # of a probe, whose whole command would be the message
        return Check("warning", f"no answer within {error.timeout:g} s", "ask again when the machine is less busy")
    except Exception as error:  # one thing that can't be looked at must not hide the others
        log.debug("a check failed", exc_info=error)
        return Check("warning", f"can't be checked: {error_line(error)}")
