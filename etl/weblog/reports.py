"""The analysts' tables, each by its SQL file in `etl/weblog/sql/`."""

import re
from collections.abc import Sequence
from datetime import date
from importlib.resources import files

from pyspark.sql import DataFrame

from etl.table import Table
from etl.tables import ALL, ads
from etl.warehouse.store import Warehouse

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
        warehouse.write(table, _query(warehouse, table, days), days, rebalance=False)


def _query(warehouse: Warehouse, table: Table, days: Sequence[date]) -> DataFrame:
    """The result of a report's SQL, from the days' partitions of the tables that it names."""
    text = statement(table)
    sources = {name: warehouse.read(ALL[name], days) for name in sorted(set(_WORD.findall(text)) & ALL.keys())}
    # As Spark writes the names of frames.
    with_frames = _WORD.sub(lambda word: f"{{{word[0]}}}" if word[0] in sources else word[0], text)
    span = {"first": table.partition_value(days[0]), "last": table.partition_value(days[-1])}
    return warehouse.spark.sql(with_frames, args=span, **sources)


def statement(table: Table) -> str:
    """The SQL of a report; its parameters `:first` and `:last` are the days, as datestr."""
    file = files("etl.weblog") / "sql" / f"{table.name}.sql"
    return file.read_text(encoding="utf-8")
