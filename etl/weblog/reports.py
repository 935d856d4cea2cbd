"""The analysts' tables, each by its SQL file in `etl/weblog/sql/`."""

from collections.abc import Sequence
from datetime import date
from importlib.resources import files

from etl.table import Table, any_of
from etl.tables import ads
from etl.warehouse.store import Warehouse

# Chains of tables: each reads the one before it, the first page views. The chains are independent of one another.
PAGE_VIEWS: tuple[tuple[Table, ...], ...] = (
    (ads.pv_referer_hourly, ads.pv_ref_host_hourly, ads.ref_host_top3_hourly),
    (ads.pv_hourly, ads.pv_daily),
    (ads.page_top10,),
)


def write(warehouse: Warehouse, days: Sequence[date], *tables: Table) -> None:
    """Replace the days' partitions of the tables, one table after another, by the results of their SQL.

    Args:
        warehouse: where the tables are read and written.
        days: the days, in order: the SQL reads from the first to the last.
        tables: reports, in the order in which they read one another.
    """
    for table in tables:
        span = {"first": table.partition_value(days[0]), "last": table.partition_value(days[-1])}
        rows = warehouse.spark.sql(statement(table), args=span)
        # Days between them may be loaded, too. Spark applies the filter before it reads.
        if len(days) <= (days[-1] - days[0]).days:
            rows = rows.where(any_of(table.partition, [table.partition_value(day) for day in days]))
        # Reports are small: rebalancing their files would only add a shuffle.
        warehouse.write(table, rows, days, rebalance=False)


def statement(table: Table) -> str:
    """The SQL of a report; its parameters `:first` and `:last` are the days, as datestr."""
    file = files("etl.weblog") / "sql" / f"{table.name}.sql"
    return file.read_text(encoding="utf-8")
