"""The analysts' tables, each by its SQL file in `etl/weblog/sql/`, for a run of days."""

from collections.abc import Sequence
from datetime import date
from importlib.resources import files

from etl.table import Table
from etl.tables import ads
from etl.warehouse.store import Warehouse

# Rows of tables that follow one another: each reads the one before it, and page views or visits.
PAGE_VIEWS: tuple[tuple[Table, ...], ...] = (
    (ads.pv_referer_hourly, ads.pv_ref_host_hourly, ads.ref_host_top3_hourly),
    (ads.pv_hourly, ads.pv_daily),
    (ads.page_top10,),
)


def write(warehouse: Warehouse, days: Sequence[date], *tables: Table) -> None:
    """Replace the days' partitions of the tables, one after another, by what their SQL says."""
    for table in tables:
        span = {"first": table.partition_value(days[0]), "last": table.partition_value(days[-1])}
        warehouse.write(table, warehouse.spark.sql(statement(table), args=span), days, rebalance=False)


def statement(table: Table) -> str:
    """The SQL of a report; `:first` and `:last` are its days, as datestr."""
    return (files("etl.weblog") / "sql" / f"{table.name}.sql").read_text(encoding="utf-8")
