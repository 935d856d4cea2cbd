"""Small parts that every area's command line uses."""

from datetime import date

import typer

from conf.errors import UsageError
from conf.settings import Config


def settings_of(context: typer.Context) -> Config:
    """The Config that the front door resolved."""
    config = context.find_root().obj
    assert isinstance(config, Config)
    return config


def parse_day(text: str) -> date:
    """A day as `2026-01-07`. Raises UsageError for anything else."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"'{text}' is not a date: write it as 2026-01-07") from None


def parse_days(day: str, since: str | None) -> list[date]:
    """The days from `since` (when given) through `day`."""
    last = parse_day(day)
    first = parse_day(since) if since else last
    if first > last:
        raise UsageError(f"--since {first} is after --date {last}")
    return [date.fromordinal(ordinal) for ordinal in range(first.toordinal(), last.toordinal() + 1)]


def one_of(kind: str, name: str, choices: "dict[str, object] | tuple[str, ...]") -> str:
    """`name`, when it is among `choices`. Raises UsageError that lists them otherwise."""
    if name not in choices:
        raise UsageError(f"unknown {kind} '{name}'; choose from {', '.join(choices)}")
    return name
