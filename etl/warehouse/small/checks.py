"""A table's checks by DuckDB, on files of this machine: a Spark job for a few rows takes longer than all their work.

It only says that all checks hold. Where one does not, or it can't tell, `quality` runs them on Spark and says which.
"""

import logging
import os
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from conf import path_of_url
from etl.table import ALL_DAYS, SCOPE, Check, InRange, MinRows, NotNull, OneOf, References, Table, Unique

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

log = logging.getLogger(__name__)

STAGED = "staged"
"""Folder in that of a run, with the rows of all its partitions in files of its own until they are split."""

# Threads of its own would wait for Spark's.
_OPTIONS = {
    "memory_limit": "1GB",
    "temp_directory": "",
    "threads": "1",
    "default_null_order": "nulls_first_on_asc_last_on_desc",  # as Spark's
}

_MAX_BYTES = 64 << 20  # of Parquet files
_MAX_FILES = 20_000
_REALS = ("float", "double")
_TYPES = {
    "string": "varchar",
    "int": "integer",
    "timestamp": "timestamp with time zone",
    "map<string,string>": "map(varchar, varchar)",
    "map<string,double>": "map(varchar, double)",
    "array<string>": "varchar[]",
}

Locate = Callable[[Table, Sequence[str]], Sequence[str]]
"""A table and partition values -> the folders of those that exist, or a staged one that has them all."""


def database() -> "DuckDBPyConnection":
    """The database of this process; each cursor has temporary views of its own."""
    return _database_of(os.getpid())


@cache  # to open one takes longer than a query
def _database_of(process: int) -> "DuckDBPyConnection":
    # By process: in a fork, the threads of its parent's database are gone, and a query would wait for them.
    import duckdb  # here: most commands write no table

    return duckdb.connect(config=_OPTIONS)


def count_if_sound(table: Table, folder: str, partitions: Sequence[str], locate: Locate) -> dict[str, int] | None:
    """Count the rows of a table's new partitions, provided that they pass all of its checks.

    Args:
        table: whose checks to run.
        folder: URL of the folder that has a folder for each partition with rows, or a staged one with them all.
        partitions: values that must be counted even when they have no rows.
        locate: finds the partitions of tables that references point to.

    Returns:
        Partition value -> number of rows; None where a check fails, or the files are many, large, or elsewhere.
    """
    import duckdb

    files = small_files(_folders_of_run(folder))
    if files is None:
        return None
    try:
        with database().cursor() as connection:
            counts = _counts(connection, table, files) if files else {}
            if counts is None:
                return None
            for check in table.all_checks:
                if isinstance(check, MinRows) and any(counts.get(value, 0) < check.rows for value in partitions):
                    return None
                if isinstance(check, References) and files and not _holds(connection, check, partitions, locate):
                    return None
    except duckdb.Error as error:  # out of memory, a type that it lacks
        log.debug("not by DuckDB: %s", error)
        return None
    return {**dict.fromkeys(partitions, 0), **counts}


def _counts(connection: "DuckDBPyConnection", table: Table, files: Sequence[Path]) -> dict[str, int] | None:
    """Rows of each partition; None where a row, or a key, breaks a check."""
    create_view(connection, "rows", table, files)
    faults = [fault for check in table.all_checks if (fault := _fault(table, check))]
    keys = [check for check in table.all_checks if isinstance(check, Unique)]
    num_faults = " + ".join(f"count(*) filter (where {fault})" for fault in faults) or "0"
    repeated = [f"count(*) - count(distinct ({', '.join(map(_name, key.columns))}))" for key in keys]
    query = f"select partition_value, count(*), {' + '.join([num_faults, *repeated])} from rows group by all"
    rows = connection.execute(query).fetchall()
    return None if any(row[2] for row in rows) else {row[0]: row[1] for row in rows}


def _fault(table: Table, check: Check) -> str | None:
    """A condition that the rows which break a check fulfil; None for a check of another kind."""
    match check:
        case NotNull(columns):
            return " or ".join(f"{_name(column)} is null" for column in columns)
        case OneOf(column, values):
            return f"{_name(column)} not in ({', '.join(map(_literal, values))})"
        case InRange(column, low, high):
            name, types = _name(column), {column.name: column.type for column in table.columns}
            bounds = [f"{name} < {low}"] if low is not None else []
            bounds += [f"{name} > {high}"] if high is not None else []
            bounds += [f"isnan({name})"] if types[column] in _REALS else []
            return " or ".join(bounds) or None
    return None


def _holds(connection: "DuckDBPyConnection", check: References, partitions: Sequence[str], locate: Locate) -> bool:
    """Whether every value of the column is in the table that it refers to, and its files are here to see that."""
    is_scoped = check.table.partition == SCOPE
    values = [ALL_DAYS] if is_scoped else partitions
    files = small_files(locate(check.table, values))
    if not files:
        return False
    create_view(connection, "referenced", check.table, files)
    same_partition = "" if is_scoped else "and referenced.partition_value = rows.partition_value"
    query = (
        f"select 1 from (select distinct {_name(check.column)} as used, partition_value from rows) as rows "
        f"where used is not null and not exists "
        f"(select 1 from referenced where referenced.{_name(check.key)} = used {same_partition}) limit 1"
    )
    return connection.execute(query).fetchone() is None


def create_view(connection: "DuckDBPyConnection", view: str, table: Table, files: Sequence[Path]) -> None:
    """Make rows readable under a name, with the partition column, and its value as `partition_value` as well.

    Args:
        connection: of DuckDB.
        view: the name.
        table: whose columns they have.
        files: of partitions' folders or of a staged one, as `small_files` lists them; all of one kind.
    """
    column = _name(table.partition)
    if not files:
        nulls = ", ".join(f"null::{_TYPES.get(each.type, each.type)} as {_name(each.name)}" for each in table.columns)
        query = f"select {nulls}, null::varchar as {column}, null::varchar as partition_value where false"
    else:
        listed = ", ".join(_literal(str(file)) for file in files)
        source = f"read_parquet([{listed}], filename = 'path_of_file', hive_partitioning = false)"
        if files[0].parent.name == STAGED:
            query = f"select * exclude (path_of_file), {column} as partition_value from {source}"
        else:
            value = f"regexp_extract(path_of_file, '{table.partition}=([^/]*)/[^/]*$', 1)"
            query = f"select * exclude (path_of_file), {value} as {column}, {value} as partition_value from {source}"
    connection.execute(f"create or replace temp view {_name(view)} as {query}")


def _folders_of_run(folder: str) -> list[str]:
    path = path_of_url(folder)
    if path is None or (path / STAGED).exists():
        return [f"{folder}/{STAGED}"]
    return [f"{folder}/{child.name}" for child in path.glob("[!._]*")]


def small_files(folders: Sequence[str]) -> list[Path] | None:
    """The data files in folders, by their URLs; None where they are not on this machine, many or large."""
    paths = [path_of_url(folder) for folder in folders]
    # As Spark: names that begin with a dot or an underscore are no data.
    files = [file for path in paths if path is not None for file in path.glob("[!._]*")]
    is_small = len(files) <= _MAX_FILES and sum(file.stat().st_size for file in files) <= _MAX_BYTES
    # A percent sign stands for a character that folders can't have.
    is_plain = not any("%" in file.parent.name for file in files)
    return files if is_small and is_plain and None not in paths else None


def _name(column: str) -> str:
    return f'"{column}"'


def _literal(value: object) -> str:
    return str(value) if isinstance(value, (int, float)) else "'" + str(value).replace("'", "''") + "'"
