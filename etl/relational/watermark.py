"""The last value that each incremental import has seen, by day: ops_watermark."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from pyspark.sql import functions as F

from etl.table import Table
from etl.tables import ops
from etl.warehouse.store import Warehouse

_PARSE: dict[str, Callable[[str], Any]] = {
    "datetime": datetime.fromisoformat,
    "int": int,
    "Decimal": Decimal,
    "float": float,
    "date": date.fromisoformat,
    "str": str,
}


class Watermarks:
    """Of one import. A day's partition holds the rows after the watermark of the day before, up to its own."""

    def __init__(self, warehouse: Warehouse, name: str) -> None:
        self._warehouse, self._name = warehouse, name
        rows = warehouse.read(ops.watermark).where(F.col("import_name") == name).collect()
        self._known = {row["dt"]: _parsed(row["last_value"], row["kind"]) for row in rows}

    def before(self, day: date) -> Any:
        """The last value seen before `day`; None before the first import."""
        return self._newest(self._earlier(day))

    def limit(self, day: date) -> tuple[bool, Any]:
        """Whether a later day has been imported, and then the value up to which rows belong to `day`."""
        if not any(known > day.isoformat() for known in self._known):
            return False, None
        return True, self._known.get(day.isoformat(), self.before(day))

    def catch_up(self, table: Table, column: str, day: date) -> None:
        """Note the values of partitions before `day` that became visible just before a kill."""
        for value in self._warehouse.partitions(table):
            if value < day.isoformat() and value not in self._known:
                rows = self._warehouse.read(table, [date.fromisoformat(value)])
                newest = rows.agg(F.max(column)).collect()[0][0]
                self.advance(date.fromisoformat(value), column, newest if newest is not None else self.before(day))

    def advance(self, day: date, column: str, last: Any) -> None:
        """Set the day's value; `None` (nothing to import yet) leaves no mark."""
        if last is None:
            return
        kind = type(last).__name__
        text = last.isoformat() if isinstance(last, (datetime, date)) else str(last)
        row = (self._name, column, text, kind, datetime.now(UTC).replace(tzinfo=None), day.isoformat())
        names = [*ops.watermark.column_names, ops.watermark.partition]
        types = [*[each.type for each in ops.watermark.columns], "string"]
        schema = ", ".join(f"`{name}` {type_}" for name, type_ in zip(names, types, strict=True))
        fresh = self._warehouse.spark.createDataFrame([row], schema)
        others = self._warehouse.read(ops.watermark, [day]).where(F.col("import_name") != self._name)
        self._warehouse.write(ops.watermark, fresh.unionByName(others), [day])
        self._known[day.isoformat()] = last

    def _earlier(self, day: date) -> list[str]:
        return [known for known in self._known if known < day.isoformat()]

    def _newest(self, days: list[str]) -> Any:
        return self._known[max(days)] if days else None


def _parsed(text: str, kind: str) -> Any:
    return _PARSE[kind](text)
