"""Documentation breaks the build: commands that the README names must exist, files that it links must be there."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT, parse_command

PAGES = {path.relative_to(ROOT): path.read_text() for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))}
TEXT = "\n".join(PAGES.values())
COMMAND = re.compile(r"^ *(?:\$ )?(?:\.venv/bin/)?millrace ((?!--).*?)(?: *(?:#|\||&&).*)?$", re.MULTILINE)
# What a shell or the reader has yet to fill in is not parsed.
LINES = sorted({line for line in COMMAND.findall(TEXT) if "$(" not in line and "…" not in line and "[--" not in line})
LINKS = sorted(
    {(page.parent, link) for page, text in PAGES.items() for link in re.findall(r"\]\(([^)h][^)]*)\)", text)}
)


def test_the_docs_name_commands() -> None:
    assert len(LINES) >= 40


@pytest.mark.parametrize("line", LINES)
def test_every_command_of_the_docs_parses(line: str) -> None:
    parse_command(shlex.split(line))


@pytest.mark.parametrize(("folder", "link"), LINKS)
def test_every_link_is_there(folder: Path, link: str) -> None:
    assert (ROOT / folder / link.partition("#")[0]).exists()


def test_the_architecture_page_shows_the_tree() -> None:
    command = [sys.executable, str(ROOT / "tools/architecture.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
