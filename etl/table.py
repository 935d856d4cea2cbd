"""What a warehouse table is: names, Hive types, comments, partition column and checks, as frozen values.

The tables themselves are in `etl/tables/`; DDL, write contracts, checks and the data dictionary all come from there.
"""

from collections.abc import Iterable
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
    is_optional: bool = False
    """Whether rows without the column may be written; it is null in them."""


@dataclass(frozen=True)
class NotNull:
    """No row may lack a value in these columns."""

    columns: tuple[str, ...]


@dataclass(frozen=True)
class Unique:
    """No two rows of a partition share these values."""

    columns: tuple[str, ...]


@dataclass(frozen=True)
class InRange:
    """Values lie between `low` and `high`, both included and None for no bound; nulls pass."""

    column: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class OneOf:
    """Values are among `values`; nulls pass."""

    column: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class References:
    """A foreign key: every value of `column` is a `key` in the same partition of `table`.

    Where `table` has one partition for all days, in that one.
    """

    column: str
    table: "Table"
    key: str


@dataclass(frozen=True)
class MinRows:
    """A partition has at least this many rows."""

    rows: int


Check = NotNull | Unique | InRange | OneOf | References | MinRows


def check_text(check: Check) -> str:
    """A check as messages and the data dictionary show it: `0 <= ctr <= 1`."""
    match check:
        case NotNull(columns):
            return f"not null: {', '.join(columns)}"
        case Unique(columns):
            return f"unique: {', '.join(columns)}"
        case InRange(column, low, high):
            lower = "" if low is None else f"{low} <= "
            return lower + column + ("" if high is None else f" <= {high}")
        case OneOf(column, values):
            return f"{column} in ({', '.join(values)})"
        case References(column, table, key):
            return f"{column} is a {table.name}.{key}"
        case MinRows(rows):
            return f"at least {rows} rows"


# The partition column of a table that is the same for all days, and its only value.
SCOPE, ALL_DAYS = "scope", "all"


@dataclass(frozen=True)
class Table:
    """A partitioned Parquet table. The description begins with the grain: "one row per request".

    `key` lists the columns that identify a row of a partition. `files_of` names a wider table whose Parquet files this
    one reads, with fewer columns. Tables are external (dropping one leaves its files) unless `is_managed`.
    """

    name: str
    description: str
    columns: tuple[Column, ...]
    partition: str = "dt"
    key: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    files_of: str | None = None  # Parquet readers take columns by name: several tables can share one set of files
    is_managed: bool = False

    @property
    def kind(self) -> str:
        """`managed` (Hive deletes its files with it) or `external`, as Hive calls them."""
        return "managed" if self.is_managed else "external"

    @property
    def column_names(self) -> list[str]:
        """Names of the columns in order, without the partition column, which Hive keeps apart."""
        return [column.name for column in self.columns]

    @property
    def schema_text(self) -> str:
        """Columns with their types, as `StructType.fromDDL` reads them; without the partition column."""
        return ", ".join(f"`{column.name}` {column.type}" for column in self.columns)

    @property
    def partitioned_schema_text(self) -> str:
        """`schema_text` with the partition column, which is text, at the end."""
        return f"{self.schema_text}, `{self.partition}` string"

    @property
    def all_checks(self) -> tuple[Check, ...]:
        """The checks in the order they run: first those that `key` implies (not null, unique), then `checks`."""
        key_checks: tuple[Check, ...] = (NotNull(self.key), Unique(self.key)) if self.key else ()
        return key_checks + self.checks

    def partition_value(self, day: date) -> str:
        """The partition of `day`: `2026-01-07`, `20260107` where the column is `datestr`, `all` where it is `scope`."""
        if self.partition == SCOPE:
            return ALL_DAYS
        text = day.isoformat()
        # The web-log tables keep the older column, for queries that are written for it.
        return text.replace("-", "") if self.partition == "datestr" else text

    def with_partition(self, rows: "DataFrame", day: date) -> "DataFrame":
        """`rows` with this table's partition column added, all of them in the partition of `day`.

        For `Warehouse.write`, which expects that column.
        """
        # In here: the declarations are read by commands that never start Spark.
        from pyspark.sql import functions as F

        return rows.withColumn(self.partition, F.lit(self.partition_value(day)))

    def create_statement(self, location: str) -> str:
        """CREATE TABLE in Hive's DDL, with the descriptions as comments.

        `location` is the folder of an external table; a managed one lies where Hive puts it.
        """
        partition_comment = "the same for all days" if self.partition == SCOPE else "day of the rows"
        columns = ",\n  ".join(f"`{c.name}` {c.type} COMMENT {quote(c.comment)}" for c in self.columns)
        # EXTERNAL by default: DROP TABLE must not delete files that another table or a running query reads.
        return (
            f"CREATE {'' if self.is_managed else 'EXTERNAL '}TABLE IF NOT EXISTS {self.name} (\n  {columns}\n)\n"
            f"COMMENT {quote(self.description)}\n"
            f"PARTITIONED BY (`{self.partition}` STRING COMMENT {quote(partition_comment)})\n"
            "STORED AS PARQUET" + ("" if self.is_managed else f"\nLOCATION {quote(location)}")
        )


def columns(*rows: tuple[str, str, str] | Column) -> tuple[Column, ...]:
    """Columns from (name, Hive type, comment) rows: how `etl/tables/` declares them."""
    return tuple(row if isinstance(row, Column) else Column(*row) for row in rows)


def any_of(column: str, values: Iterable[str]) -> str:
    """A SQL condition: the column has one of `values`; for thousands, where `Column.isin` has a call to Java for each.

    No row fulfils it where there are no values.
    """
    texts = ", ".join(map(quote, values))
    return f"`{column}` in ({texts})" if texts else "false"


def quote(text: str) -> str:
    """A SQL string literal of `text`, with backslashes and quotes escaped as Spark reads them."""
    # Spark follows Hive, not the SQL standard: a quote is escaped by a backslash, never doubled.
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
