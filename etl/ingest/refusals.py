"""Refused rows of an ingest: too many stop it before anything changes, the others go to ods_quarantine."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial, reduce

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from conf import UserError
from etl.ingest.columns import FileRole
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
        f"{refused} of {total} rows can't be read, more than {max_refused:.0%} (ingest.max_refused); nothing was "
        f"changed. {'; '.join(examples)}"
    )


def write_refused(
    warehouse: Warehouse,
    parsed: Mapping[FileRole, ParsedFiles],
    marked: Mapping[FileRole, DataFrame],
    day: date,
) -> int:
    """Quarantine refused rows under `day`, instead of those that the same files had there; returns their number.

    A row without a time can have no day of its own.

    Args:
        warehouse: where ods_quarantine is.
        parsed: all files; rows with a reason are refused.
        marked: valid rows; those that got a reason are refused, too.
        day: the partition.
    """
    numbered = []
    for role, files in parsed.items():
        refused = files.rows.where("reason is not null").select(*_COLUMNS)
        duplicates = marked[role].where("reason is not null").withColumn("column_name", F.lit(None).cast("string"))
        numbered += _with_line_numbers(files.lines, refused.unionByName(duplicates.select(*_COLUMNS)))
    names = sorted({row["file"] for files in parsed.values() for row in files.summary})
    is_of_files = (F.col("stage") == "ingest") & F.col("file").isin(names)
    if not numbered and (
        not warehouse.has_partition(ods.quarantine, day)
        or warehouse.read(ods.quarantine, [day]).where(is_of_files).isEmpty()
    ):
        return 0
    nothing = ods.quarantine.with_partition(warehouse.spark.createDataFrame([], ods.quarantine.schema_text), day)
    rows = reduce(partial(DataFrame.unionByName, allowMissingColumns=True), numbered, nothing)
    rows = ods.quarantine.with_partition(rows, day)
    return quarantine.replace_rows(warehouse, "ingest", rows, [day], files=names)[day]


def _with_line_numbers(lines: DataFrame, rejected: DataFrame) -> list[DataFrame]:
    """The rows with their `line_number`, for which only the files that have some are read again; none for no row."""
    files = [row["file"] for row in rejected.select("file").distinct().collect()]
    return [with_line_numbers(lines.where(F.col("file").isin(files)), rejected)] if files else []


def _example(files: Sequence[ParsedFiles], reason: str, column: str | None) -> str:
    is_example = (F.col("reason") == reason) & F.col("column_name").eqNullSafe(F.lit(column))
    for file in files:
        row = file.rows.where(is_example).select(*_COLUMNS).first()
        if row is not None:
            rows = file.rows.where(is_example & (F.col("file") == row["file"]) & (F.col("id") == row["id"]))
            (numbered,) = _with_line_numbers(file.lines, rows.select(*_COLUMNS))
            number = numbered.collect()[0]["line_number"]
            line = row["line"] if len(row["line"]) <= _EXAMPLE_CHARS else row["line"][: _EXAMPLE_CHARS - 1] + "…"
            return f"{row['file'].rsplit('/', 1)[-1]}:{number}: {line!r}"
    raise AssertionError(f"no row is refused for {reason}")
