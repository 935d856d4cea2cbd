"""What a warehouse table is: names, Hive types, comments, partition key and checks, as frozen values.

The tables themselves are in `etl/tables/`; DDL, write contracts, checks and the data dictionary all come from there.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Column:
    """One column; `type` is a Hive type as text (`StructType.fromDDL` would need a running JVM)."""

    name: str
    type: str
    comment: str


@dataclass(frozen=True)
class NotNull:
    """No row may lack a value in these columns."""

    columns: tuple[str, ...]

    def __str__(self) -> str:
        return f"not null: {', '.join(self.columns)}"


@dataclass(frozen=True)
class Unique:
    """No two rows of a partition share these values."""

    columns: tuple[str, ...]

    def __str__(self) -> str:
        return f"unique: {', '.join(self.columns)}"


@dataclass(frozen=True)
class InRange:
    """Values lie between `low` and `high`, both included; missing values are another check's business."""

    column: str
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        low = "" if self.low is None else f"{self.low} <= "
        return low + self.column + ("" if self.high is None else f" <= {self.high}")


@dataclass(frozen=True)
class OneOf:
    """Values are among `values`; missing values are another check's business."""

    column: str
    values: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.column} in ({', '.join(self.values)})"


@dataclass(frozen=True)
class MinRows:
    """A partition has at least this many rows."""

    rows: int

    def __str__(self) -> str:
        return f"at least {self.rows} rows"


Check = NotNull | Unique | InRange | OneOf | MinRows


@dataclass(frozen=True)
class Table:
    """A partitioned Parquet table. The description begins with the grain: "one row per request"."""

    name: str
    description: str
    columns: tuple[Column, ...]
    partition: str = "dt"
    key: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()

    @property
    def column_names(self) -> list[str]:
        return [column.name for column in self.columns]

    @property
    def all_checks(self) -> tuple[Check, ...]:
        """The checks, with those that the key implies first."""
        return ((NotNull(self.key), Unique(self.key)) if self.key else ()) + self.checks

    def partition_value(self, day: Any) -> str:
        """`2026-01-07`, or `20260107` for the web-log tables, which keep the old `datestr`."""
        text: str = day.isoformat()
        return text.replace("-", "") if self.partition == "datestr" else text

    def create_statement(self, location: str) -> str:
        """DDL with comments; the table is external: dropping it leaves the files."""
        columns = ",\n  ".join(f"`{c.name}` {c.type} COMMENT {quote(c.comment)}" for c in self.columns)
        return (
            f"CREATE EXTERNAL TABLE IF NOT EXISTS {self.name} (\n  {columns}\n)\nCOMMENT {quote(self.description)}\n"
            f"PARTITIONED BY (`{self.partition}` STRING COMMENT 'day of the rows')\n"
            f"STORED AS PARQUET\nLOCATION {quote(location)}"
        )


def columns(*rows: tuple[str, str, str]) -> tuple[Column, ...]:
    """Columns from (name, type, comment) rows."""
    return tuple(Column(*row) for row in rows)


def quote(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
