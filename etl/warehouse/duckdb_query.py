"""Queries answered by DuckDB from the partitions' Parquet files, without a JVM of Spark; Spark has all others."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from conf import Config, path_of_url
from etl.metastore.reader import StoredTable, read_tables
from etl.settings import SparkSettings
from etl.table import Table
from etl.tables import ALL
from etl.warehouse.select_rules import TYPES, OnlySparkError, Select, translate

log = logging.getLogger(__name__)

_MAX_FILES = 10_000  # the footer of each is read
_MAX_MEMORY = "2GB"
_ROWS_AT_ONCE = 1000


@dataclass(frozen=True)
class Answer:
    """The result of a query; its rows can be read once."""

    columns: tuple[str, ...]
    rows: Iterator[tuple[Any, ...]]


def answer(config: Config, statement: str) -> Answer | None:
    """Answer a SELECT as Spark would; None where Spark has to.

    That is a statement of more than the columns, conditions, joins and aggregates of `select_rules`; one with a
    mistake, which Spark names; tables that no stage has written, or that are not on this machine's disks; and whatever
    fails.

    Raises:
        UserError: another process has the metastore for too long.
    """
    if config.get(SparkSettings).extra:  # options that may change what SQL means
        return None
    try:
        select = translate(statement, ALL)
        stored = read_tables(config, select.tables)
        if stored is None:
            raise OnlySparkError("this metastore")
        return run_select(select, stored)
    except (OnlySparkError, duckdb.Error, OSError) as error:
        log.debug("not by DuckDB: %s", error)
        return None


def run_select(select: Select, stored: dict[str, StoredTable]) -> Answer:
    connection = duckdb.connect(
        config={
            "memory_limit": _MAX_MEMORY,
            "temp_directory": "",  # what is too large for memory is Spark's
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        }
    )
    connection.execute("set parquet_metadata_cache = true")  # else each footer is read three times
    for name, table in select.tables.items():
        if name not in stored:
            raise OnlySparkError(f"{name}, which no stage has written")
        _create_view(connection, table, stored[name], select.pruning.get(name))
    # Whole before the first row is printed: until then Spark can still take over.
    connection.execute(f"create temp table rows_of_query as {select.sql}")
    types = [row[1] for row in connection.execute("describe rows_of_query").fetchall()]
    if unlike := set(types) - {*TYPES.values(), "HUGEINT"}:
        raise OnlySparkError(f"a result of {', '.join(sorted(unlike))}")
    # A sum of integers is one of 128 bits here, and an error beyond 64 bits in Spark, as this conversion is.
    columns = [f"#{place}::BIGINT" if kind == "HUGEINT" else f"#{place}" for place, kind in enumerate(types, 1)]
    connection.execute(f"create temp table result as select {', '.join(columns)} from rows_of_query")
    connection.execute("select * from result")
    return Answer(select.columns, _rows(connection))


def _rows(connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    while rows := connection.fetchmany(_ROWS_AT_ONCE):
        yield from rows


def _create_view(connection: duckdb.DuckDBPyConnection, table: Table, stored: StoredTable, pruning: str | None) -> None:
    """Make a table's partitions readable under its name, of those that `pruning` leaves."""
    if stored.columns != [name.lower() for name in table.column_names]:
        raise OnlySparkError(f"columns of {table.name}, which are not those of this release")
    values = _pruned(connection, table.partition, list(stored.partitions), pruning)
    files = [(str(file), value) for value in values for file in _parquet_files(stored.partitions[value])]
    if len(files) > _MAX_FILES:
        raise OnlySparkError(f"{len(files)} files of {table.name}")
    types = {column.name: TYPES[column.type] for column in table.columns if column.type in TYPES}
    if not files:
        columns = ", ".join(f'null::{kind} as "{name}"' for name, kind in {**types, table.partition: "VARCHAR"}.items())
        connection.execute(f"create view {table.name} as select {columns} where false")
        return
    connection.execute(f"create temp table files_of_{table.name} (file varchar, partition_value varchar)")
    connection.executemany(f"insert into files_of_{table.name} values (?, ?)", files)
    # By name, because files of an earlier release lack the columns that the table has gained since.
    listed = ", ".join(_quoted(file) for file, _ in files)
    source = f"read_parquet([{listed}], union_by_name = true, filename = 'file', hive_partitioning = false)"
    present = {row[0] for row in connection.execute(f"describe select * from {source}").fetchall()}
    columns = ", ".join(f'{_column(name, present)}::{kind} as "{name}"' for name, kind in types.items())
    connection.execute(
        f'create view {table.name} as select {columns}, partition_value as "{table.partition}" '
        f"from {source} rows_of_files join files_of_{table.name} using (file)"
    )


def _column(name: str, present: set[str]) -> str:
    return f'rows_of_files."{name}"' if name in present else "null"


def _pruned(
    connection: duckdb.DuckDBPyConnection, partition: str, values: Sequence[str], pruning: str | None
) -> list[str]:
    """The partitions that fulfil a condition on the partition column, in order."""
    if pruning is None or not values:
        return sorted(values)
    listed = ", ".join(f"({_quoted(value)})" for value in values)
    rows = connection.execute(f'select "{partition}" from (values {listed}) as p("{partition}") where {pruning}')
    return sorted(row[0] for row in rows.fetchall())


def _parquet_files(url: str) -> list[Path]:
    folder = path_of_url(url)
    if folder is None:
        raise OnlySparkError(f"files at {url}")
    # As Spark: names that begin with a dot or an underscore are no data.
    return sorted(path for path in folder.iterdir() if path.name[0] not in "._")


def _quoted(text: str) -> str:
    escaped = text.replace("'", "''")
    return f"'{escaped}'"
