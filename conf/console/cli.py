"""Options and their parsing that the command lines of several areas share."""

import re
from collections.abc import Collection
from contextlib import suppress
from datetime import date
from enum import StrEnum
from typing import Annotated

import typer

from conf.errors import UsageError
from conf.paths import Paths
from conf.settings import Config

# As text, not as Typer's datetime: its parser's message would not say how a day is written.
DayOption = Annotated[str, typer.Option("--date", help="the day, as 2026-01-07")]
SinceOption = Annotated[str | None, typer.Option("--since", help="first day of a range that ends with --date")]


class OutputFormat(StrEnum):
    """How rows are printed."""

    table = "table"
    csv = "csv"
    json = "json"


OutputOption = Annotated[OutputFormat, typer.Option("--format", help="how rows are printed")]
FormulasOption = Annotated[
    bool, typer.Option("--formulas-as-text", help="csv: an apostrophe before texts that a spreadsheet would compute")
]


def settings_of(context: typer.Context, *, creates_home: bool = True) -> Config:
    """The Config that the front door resolved from profile, files, environment and `--set`, for a command's context.

    The home is there then, private, whatever part of the command is the first to write to it.
    """
    # The front door passes it as the root command's `obj`; sub-commands have contexts of their own below that.
    config = context.find_root().obj
    assert isinstance(config, Config)
    if creates_home:
        config.get(Paths).create_root()
    return config


def parse_day(text: str) -> date:
    """Parse a day of the command line, as `2026-01-07`. Raises UsageError that says how to write it."""
    # Python also reads 20260107 and 2026-W02-3, which a mistyped number can be.
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        with suppress(ValueError):
            return date.fromisoformat(text)
    raise UsageError(f"'{text}' is not a date: write it as 2026-01-07")


def parse_days(day: str, since: str | None) -> list[date]:
    """All days from `since` (or `day` alone without it) through `day`, oldest first.

    Raises UsageError for a malformed date, and when `since` is after `day`.
    """
    last = parse_day(day)
    first = parse_day(since) if since else last
    if first > last:
        raise UsageError(f"--since {first} is after --date {last}")
    return [date.fromordinal(ordinal) for ordinal in range(first.toordinal(), last.toordinal() + 1)]


def one_of(kind: str, name: str, choices: Collection[str]) -> str:
    """Return `name` when it is among `choices` (names in order, or a dict by name); `kind` names it in the message.

    Raises UsageError that lists the choices otherwise.
    """
    if name not in choices:
        raise UsageError(f"unknown {kind} '{name}'; choose from {', '.join(choices)}")
    return name
