"""Options, parsing and output that the command lines of several areas share."""

import csv
import json
import sys
from collections.abc import Collection
from datetime import date
from enum import StrEnum
from typing import Annotated, Any

import typer

from conf.errors import UsageError
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


def settings_of(context: typer.Context) -> Config:
    """The Config that the front door resolved from profile, files, environment and `--set`, for a command's context."""
    # The front door passes it as the root command's `obj`; sub-commands have contexts of their own below that.
    config = context.find_root().obj
    assert isinstance(config, Config)
    return config


def parse_day(text: str) -> date:
    """Parse a day of the command line, as `2026-01-07`. Raises UsageError that says how to write it."""
    # Python also reads 20260107 and 2026-W02-3; folders and partitions are named from the date, never from the text.
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"'{text}' is not a date: write it as 2026-01-07") from None


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


def print_rows(columns: list[str], rows: list[dict[str, Any]], output: OutputFormat) -> None:
    """Print rows to stdout, and nothing else: as a table, as CSV with a header, or as one JSON array."""
    if output is OutputFormat.json:
        print(json.dumps(rows, default=str, ensure_ascii=False))
        return
    if output is OutputFormat.csv:
        writer = csv.DictWriter(sys.stdout, columns)
        writer.writeheader()
        writer.writerows(rows)
        return
    # Here, because it loads slowly and programs that read the output ask for JSON or CSV.
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns)
    for row in rows:
        table.add_row(*["" if row[name] is None else str(row[name]) for name in columns])
    # Into a pipe rich would wrap at 80 columns, which no program that reads the table expects.
    Console(width=None if sys.stdout.isatty() else 200).print(table)
