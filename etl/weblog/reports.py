"""The analysts' tables, each by its SQL file in `etl/weblog/sql/`."""

import re
from collections.abc import Mapping, Sequence
from datetime import date
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from pyspark.sql import DataFrame

from etl.table import Table
from etl.tables import ALL, ads
from etl.warehouse.small.tables import answer
from etl.warehouse.store import Warehouse

if TYPE_CHECKING:
    import pyarrow as pa

# Chains of tables: each reads the one before it, the first page views. The chains are independent of one another.
PAGE_VIEWS: tuple[tuple[Table, ...], ...] = (
    (ads.pv_referer_hourly, ads.pv_ref_host_hourly, ads.ref_host_top3_hourly),
    (ads.pv_hourly, ads.pv_daily),
    (ads.page_top10,),
)

_WORD = re.compile(r"\w+")


def write(warehouse: Warehouse, days: Sequence[date], *tables: Table) -> None:
    """Replace the days' partitions of the tables, one table after another, by the results of their SQL.

    Args:
        warehouse: where the tables are read and written.
        days: the days, in order: the SQL reads from the first to the last.
        tables: reports, in the order in which they read one another.
    """
    for table in tables:
        # Reports are small: rebalancing their files would only add a shuffle.
        types = {column.name: column.type for column in table.columns} | {table.partition: "string"}
        warehouse.write(table, query(warehouse, statement(table), types, table, days), days, rebalance=False)


def query(
    warehouse: Warehouse, text: str, columns: Mapping[str, str], table: Table, days: Sequence[date]
) -> "DataFrame | pa.Table":
    """The result of SQL in words of both engines: by DuckDB where it reads few rows on this machine.

    Args:
        warehouse: where the tables are.
        text: reads the days' partitions of the tables that it names; `:first` and `:last` are the days.
        columns: name -> Hive type of the result's columns.
        table: whose way to write days the parameters have.
        days: in order.
    """
    sources = [ALL[name] for name in sorted(set(_WORD.findall(text)) & ALL.keys())]
    span = {"first": table.partition_value(days[0]), "last": table.partition_value(days[-1])}
    folders = {source: warehouse.local_folders(source, days) for source in sources}
    present = {source: of_source for source, of_source in folders.items() if of_source is not None}
    if len(present) == len(sources):
        rows = answer(text, span, present, columns)
        if rows is not None:
            return rows
    frames = {source.name: warehouse.read(source, days) for source in sources}
    # As Spark writes the names of frames.
    with_frames = _WORD.sub(lambda word: f"{{{word[0]}}}" if word[0] in frames else word[0], text)
    return warehouse.spark.sql(with_frames, args=span, **frames)


def rows_of(result: "DataFrame | pa.Table") -> list[dict[str, Any]]:
    """The rows of a `query`, few as they must be."""
    return [row.asDict() for row in result.collect()] if isinstance(result, DataFrame) else result.to_pylist()


def statement(table: Table) -> str:
    """The SQL of a report; its parameters `:first` and `:last` are the days, as datestr."""
    file = files("etl.weblog") / "sql" / f"{table.name}.sql"
    return file.read_text(encoding="utf-8")
