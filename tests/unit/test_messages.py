"""What a message tells the user to run is a command line that parses; collected from the source of all packages."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT, parse_command

from conf.code import PACKAGES
from dags.stages import HOURLY, PREDICTIONS, STAGES, TUNE, WEEKLY
from training.inputs.dataset import BUILD_COMMANDS

FILES = [ROOT / "millrace.py", *(path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))]
ALL_STAGES = [*STAGES, TUNE, *WEEKLY, *HOURLY, *PREDICTIONS]
# What messages put into their commands, by the source of the expression; a command as a whole is found where it is made.
VALUES = {
    "day": ["2026-01-07"],
    "model": ["deepfm"],
    "area": ["demo"],
    "by_hand": [stage.command.format(date="DAY") for stage in ALL_STAGES],
    "table.name": ["dim_user"],
    "command": [""],
    "BUILD_COMMANDS.get(task.kind, 'features build')": ["features build", *BUILD_COMMANDS.values()],
}
COMMANDS = re.compile(r"`millrace ([^`]*)`|^(?:[ ]*\.venv/bin/)?millrace ([a-z].*)$", re.MULTILINE)
TARGETS = re.compile(r"`make ([^`]*)`")


def texts(path: Path) -> Iterator[str]:
    """All strings of a module but docstrings and those within f-strings, with plausible values in their places."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            skipped |= {id(part) for part in ast.walk(node)} - {id(node)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield from filled(node)


def filled(node: ast.JoinedStr) -> list[str]:
    """An f-string once for each value of its places; other places than those of VALUES become `?`."""
    variants = [""]
    for part in node.values:
        if isinstance(part, ast.FormattedValue):
            values = VALUES.get(ast.unparse(part.value), ["?"])
        else:
            assert isinstance(part, ast.Constant)
            values = [str(part.value)]
        variants = [before + value for before in variants for value in values]
    return variants


TEXTS = sorted({text for path in FILES for text in texts(path)})
LINES = sorted({line for text in TEXTS for pair in COMMANDS.findall(text) for line in pair if line})


def test_the_source_has_messages_with_commands() -> None:
    """So that a change of their form can't empty the tests below; one of each form."""
    forms = {"etl results", "etl import --date 2026-01-07", "features covers --date 2026-01-07", "recsys recommend u42"}
    assert forms <= set(LINES)
    assert len(LINES) >= 20


@pytest.mark.parametrize("line", LINES)
def test_a_command_that_a_message_names_parses(line: str) -> None:
    assert "?" not in line, "add the expression to VALUES"
    parse_command(shlex.split(line.replace("DAY", "2026-01-01")))


def test_a_make_target_that_a_message_names_is_there() -> None:
    targets = {target for text in TEXTS for target in TARGETS.findall(text)}
    assert targets
    assert targets <= set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
