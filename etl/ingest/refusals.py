"""Refused rows of an ingest: too many stop it before anything changes, the others go to ods_quarantine."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import reduce

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from conf import UserError
from etl.sources.lines import with_line_numbers
from etl.tables import ods
from etl.warehouse import quarantine
from etl.warehouse.store import Warehouse

_NUM_REASONS = 5
_EXAMPLE_CHARS = 120
_COLUMNS = ("line", "file", "block", "id", "reason", "column_name")


@dataclass(frozen=True)
class ParsedFiles:
    """Files of one role, read."""

    lines: DataFrame
    """All their lines."""
    rows: DataFrame
    """Their rows, persisted, with `reason`."""
    summary: Sequence[Row]
    """`file`, `dt`, `reason`, `column_name`, and how many rows have these (`rows`), with their `content_hash`."""


def check_share(files: Sequence[ParsedFiles], max_refused: float) -> None:
    """Check that few enough rows are refused.

    Args:
        files: all files of the command.
        max_refused: the greatest share of all rows.

    Raises:
        UserError: there are more; the message has the commonest reasons, with how many and an example each.
    """
    total, reasons = 0, Counter[tuple[str, str | None]]()
    for row in (row for file in files for row in file.summary):
        total += row["rows"]
        if row["reason"] is not None:
            reasons[row["reason"], row["column_name"]] += row["rows"]
    refused = sum(reasons.values())
    if refused <= max_refused * total:
        return
    examples = [
        f"{count} × {reason}{f' in {column}' if column else ''}, as {_example(files, reason, column)}"
        for (reason, column), count in reasons.most_common(_NUM_REASONS)
    ]
    raise UserError(
        f"{refused} of {total} rows can't be read, more than {max_refused:.0%} (ingest.max_refused); nothing was changed. "
        + "; ".join(examples)
    )


def write_refused(warehouse: Warehouse, files: Sequence[ParsedFiles], day: date) -> int:
    """Quarantine the refused rows under `day`, instead of those that the same files had there; returns their number.

    A row without a time can have no day of its own.
    """
    rejected = [file.rows.where("reason is not null").select(*_COLUMNS) for file in files]
    numbered = [_with_line_numbers(file.lines, rows) for file, rows in zip(files, rejected, strict=True)]
    rows = ods.quarantine.with_partition(reduce(DataFrame.unionByName, numbered), day)
    names = sorted({row["file"] for file in files for row in file.summary})
    return quarantine.replace_rows(warehouse, "ingest", rows, [day], files=names)[day]


def _with_line_numbers(lines: DataFrame, rejected: DataFrame) -> DataFrame:
    """The rows with their `line_number`, for which only the files that have some are read again."""
    files = [row["file"] for row in rejected.select("file").distinct().collect()]
    return with_line_numbers(lines.where(F.col("file").isin(files)), rejected)


def _example(files: Sequence[ParsedFiles], reason: str, column: str | None) -> str:
    is_example = (F.col("reason") == reason) & F.col("column_name").eqNullSafe(F.lit(column))
    for file in files:
        row = file.rows.where(is_example).select(*_COLUMNS).first()
        if row is not None:
            rows = file.rows.where(is_example & (F.col("file") == row["file"]) & (F.col("id") == row["id"]))
            number = _with_line_numbers(file.lines, rows.select(*_COLUMNS)).collect()[0]["line_number"]
            line = row["line"] if len(row["line"]) <= _EXAMPLE_CHARS else row["line"][: _EXAMPLE_CHARS - 1] + "…"
            return f"{row['file'].rsplit('/', 1)[-1]}:{number}: {line!r}"
    raise AssertionError(f"no row is refused for {reason}")
