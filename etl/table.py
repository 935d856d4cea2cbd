"""What a warehouse table is: names, Hive types, comments, partition key and checks, as frozen values.

The tables themselves are in `etl/tables/`; DDL, write contracts, checks and the data dictionary all come from there.
"""

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


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
class References:
    """Every value of `column` is a `key` in the same partition of `table` (in its only one, if it has but one)."""

    column: str
    table: "Table"
    key: str

    def __str__(self) -> str:
        return f"{self.column} is a {self.table.name}.{self.key}"


@dataclass(frozen=True)
class MinRows:
    """A partition has at least this many rows."""

    rows: int

    def __str__(self) -> str:
        return f"at least {self.rows} rows"


Check = NotNull | Unique | InRange | OneOf | References | MinRows

# The partition column of a table that is the same for all days, and its only value.
SCOPE, ALL_DAYS = "scope", "all"


@dataclass(frozen=True)
class Table:
    """A partitioned Parquet table. The description begins with the grain: "one row per request".

    `files_of` names a wider table: then this one is a choice of its columns over the very same files. Tables are
    external (dropping one leaves its files) but for those that are managed.
    """

    name: str
    description: str
    columns: tuple[Column, ...]
    partition: str = "dt"
    key: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    files_of: str | None = None
    is_managed: bool = False

    @property
    def kind(self) -> str:
        return "managed" if self.is_managed else "external"

    @property
    def column_names(self) -> list[str]:
        return [column.name for column in self.columns]

    @property
    def all_checks(self) -> tuple[Check, ...]:
        """The checks, with those that the key implies first."""
        return ((NotNull(self.key), Unique(self.key)) if self.key else ()) + self.checks

    def partition_value(self, day: date) -> str:
        """`2026-01-07`, or `20260107` for the web-log tables, which keep the old `datestr`."""
        if self.partition == SCOPE:
            return ALL_DAYS
        text = day.isoformat()
        return text.replace("-", "") if self.partition == "datestr" else text

    def with_partition(self, rows: "DataFrame", day: date) -> "DataFrame":
        """`rows` with this table's partition column, all of them in the partition of `day`."""
        # In here: the declarations are read by commands that never start Spark.
        from pyspark.sql import functions as F

        return rows.withColumn(self.partition, F.lit(self.partition_value(day)))

    @property
    def partition_comment(self) -> str:
        return "the same for all days" if self.partition == SCOPE else "day of the rows"

    def create_statement(self, location: str) -> str:
        """DDL with comments."""
        columns = ",\n  ".join(f"`{c.name}` {c.type} COMMENT {quote(c.comment)}" for c in self.columns)
        return (
            f"CREATE {'' if self.is_managed else 'EXTERNAL '}TABLE IF NOT EXISTS {self.name} (\n  {columns}\n)\n"
            f"COMMENT {quote(self.description)}\n"
            f"PARTITIONED BY (`{self.partition}` STRING COMMENT {quote(self.partition_comment)})\n"
            "STORED AS PARQUET" + ("" if self.is_managed else f"\nLOCATION {quote(location)}")
        )


def columns(*rows: tuple[str, str, str]) -> tuple[Column, ...]:
    """Columns from (name, type, comment) rows."""
    return tuple(Column(*row) for row in rows)


def quote(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
