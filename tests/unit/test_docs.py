"""Documentation breaks the build: commands that the README names must exist, files that it links must be there."""

import re
import shlex
from importlib import import_module

import pytest
import typer
from support import ROOT

import millrace as front

TEXT = (ROOT / "README.md").read_text()
LINES = sorted(set(re.findall(r"^(?:\$ )?(?:\.venv/bin/)?millrace ((?!--).*?)(?: *#.*)?$", TEXT, re.MULTILINE)))


def test_the_readme_names_commands() -> None:
    assert len(LINES) >= 8


@pytest.mark.parametrize("line", LINES)
def test_every_command_of_the_readme_parses(line: str) -> None:
    arguments, _ = front.split_common(shlex.split(line))
    area, *rest = arguments
    module, name = front.AREAS[area][0].split(":")
    command = typer.main.get_command(getattr(import_module(module), name))
    if hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    command.make_context(area, rest)


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)h][^)]*)\)", TEXT))))
def test_every_link_of_the_readme_is_there(link: str) -> None:
    assert (ROOT / link).is_file()
