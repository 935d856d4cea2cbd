"""The greatest value that each incremental import has read, by day: ops_watermark."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from pyspark.sql import functions as F

from etl.table import Table
from etl.tables import ops
from etl.warehouse.store import Warehouse

# By the name of the Python type, which the table has beside the text.
_PARSERS: dict[str, Callable[[str], Any]] = {
    "datetime": datetime.fromisoformat,
    "int": int,
    "Decimal": Decimal,
    "float": float,
    "date": date.fromisoformat,
    "str": str,
}


class Watermarks:
    """Watermarks of one import, by day.

    A day's partition has the rows after the watermark of the day before, up to its own.

    Args:
        warehouse: where ops_watermark is.
        name: the import's name in the settings.
    """

    def __init__(self, warehouse: Warehouse, name: str) -> None:
        self._warehouse, self._name = warehouse, name
        rows = warehouse.read(ops.watermark).where(F.col("import_name") == name).collect()
        self._by_day = {row["dt"]: _PARSERS[row["kind"]](row["last_value"]) for row in rows}

    def before(self, day: date) -> Any:
        """The last value read before `day`; None before the first import."""
        earlier = [value for value in self._by_day if value < day.isoformat()]
        return self._by_day[max(earlier)] if earlier else None

    def limit(self, day: date) -> tuple[bool, Any]:
        """Whether a later day has been imported, and then the greatest value of rows that belong to `day`."""
        if not any(value > day.isoformat() for value in self._by_day):
            return False, None
        return True, self._by_day.get(day.isoformat(), self.before(day))

    def catch_up(self, table: Table, column: str, day: date) -> None:
        """Set the watermarks of partitions before `day` that became visible just before a kill.

        Args:
            table: the import's target.
            column: its check column, in lower case.
            day: the day that is about to be imported.
        """
        earlier = [value for value in self._warehouse.partitions(table) if value < day.isoformat()]
        missing = [date.fromisoformat(value) for value in earlier if value not in self._by_day]
        for partition_day in missing:
            newest = self._warehouse.read(table, [partition_day]).agg(F.max(column)).collect()[0][0]
            # An empty partition moves nothing: its watermark is that of the day before.
            self.advance(partition_day, column, newest if newest is not None else self.before(day))

    def advance(self, day: date, column: str, last_value: Any) -> None:
        """Set the day's watermark; None (nothing to import yet) sets none.

        Args:
            day: the imported day.
            column: the check column.
            last_value: the greatest value that was read: a number, a text, a date or a time.
        """
        if last_value is None:
            return
        kind = type(last_value).__name__
        text = last_value.isoformat() if isinstance(last_value, (datetime, date)) else str(last_value)
        row = (self._name, column, text, kind, datetime.now(UTC).replace(tzinfo=None), day.isoformat())
        own = self._warehouse.spark.createDataFrame([row], ops.watermark.partitioned_schema_text)
        # A partition has the watermarks of all imports.
        others = self._warehouse.read(ops.watermark, [day]).where(F.col("import_name") != self._name)
        self._warehouse.write(ops.watermark, own.unionByName(others), [day])
        self._by_day[day.isoformat()] = last_value
