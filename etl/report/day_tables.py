"""The tables of a report's day and of the days before it, as aggregates small enough to collect."""

from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from conf import Config
from etl.report.job import newest_metrics, newest_stages
from etl.table import Table
from etl.warehouse.store import Warehouse

Rows = list[dict[str, Any]]


def collect_rows(rows: DataFrame) -> Rows:
    """Rows as dicts: of aggregates only, some hundred rows."""
    return [row.asDict() for row in rows.collect()]


@dataclass(frozen=True)
class DayTables:
    """The tables of a day, and of the days before it; what several parts of the page need is read once."""

    spark: SparkSession
    config: Config
    day: date

    def days(self, number: int) -> list[date]:
        """The last `number` days, newest first: the report's day is the first."""
        return [self.day - timedelta(days=n) for n in range(number)]

    def read(self, table: Table, *, days: int = 1) -> DataFrame:
        """The partitions of the last `days` days, of which the report's day is the last."""
        return self.warehouse.read(table, self.days(days))

    @cached_property
    def warehouse(self) -> Warehouse:
        """The warehouse of the session."""
        return Warehouse(self.spark, self.config)

    @cached_property
    def metrics(self) -> Rows:
        """The newest metrics of the day's models."""
        return collect_rows(newest_metrics(self.spark, self.config, self.day))

    @cached_property
    def stages(self) -> Rows:
        """The newest run of each stage of the day."""
        return collect_rows(newest_stages(self.spark, self.config, self.day))
