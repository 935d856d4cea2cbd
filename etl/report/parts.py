"""What a section of the page may be, beside a chart: numbers with a name each, and a table that sorts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from etl.report.job import format_cell


@dataclass(frozen=True)
class Numbers:
    """Named numbers: what a chart over days would be on its first day."""

    rows: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its text, and the number that it sorts by, None for a text."""

    text: str
    number: float | None = None


@dataclass(frozen=True)
class Table:
    """A table with a heading per column, in the order that it has before somebody sorts it."""

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    @classmethod
    def of(cls, header: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> "Table":
        """A table of some keys of `rows`.

        Args:
            header: key -> heading of its column, in the order of the columns.
            rows: values, or cells where `cell` would write a value another way.
        """
        cells = [[cell(row[key]) for key in header] for row in rows]
        return cls(list(header.values()), cells)


def cell(value: object) -> Cell:
    """A value as a cell: counts with thousands separators, other numbers with four decimal places."""
    if isinstance(value, Cell):
        return value
    # NaN and infinities have no place in an order.
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return Cell(format_count(value) if isinstance(value, int) else format_cell(value), float(value))
    return Cell(format_cell(value))


def format_count(value: float) -> str:
    """1,234 for 1234; a mean of counts has one decimal place."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def share(part: float | None, whole: float | None) -> Cell:
    """`part` of `whole` in per cent; a dash where there is nothing to have a share of."""
    if part is None or not whole:
        return Cell("–")
    return Cell(f"{part / whole:.2%}", part / whole)
