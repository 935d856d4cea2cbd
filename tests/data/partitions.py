"""A small table, its rows, and what a warehouse has of it."""

from datetime import date

from pyspark.sql import DataFrame, SparkSession

from etl.table import InRange, OneOf, Table, columns
from etl.warehouse.store import Warehouse

DAYS = [date(2026, 2, 1), date(2026, 2, 2)]


def table_of(name: str) -> Table:
    return Table(
        name,
        "One row per a",
        columns(("a", "int", "key"), ("b", "string", "x or y")),
        key=("a",),
        checks=(InRange("a", 0, 99), OneOf("b", ("x", "y"))),
    )


def rows(spark: SparkSession, values: list[tuple[object, ...]]) -> DataFrame:
    return spark.createDataFrame(values, "a int, b string, dt string")


def content(warehouse: Warehouse, table: Table) -> list[tuple[object, ...]]:
    return sorted(tuple(row) for row in warehouse.read(table).collect())
