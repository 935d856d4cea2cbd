"""A few days of impressions, users and items, written into a warehouse without logs."""

import math
from collections.abc import Callable, Sequence
from datetime import date, datetime
from zoneinfo import ZoneInfo

import numpy as np
from pyspark.sql import SparkSession

from etl.tables import dim, dwd
from etl.warehouse.store import Warehouse

IMPRESSIONS = (
    "impression_id string, request_id string, user_id string, item_id string, position int, device string, "
    "shown_at timestamp, is_clicked int, features map<string, double>, dt string"
)


def write_days(
    spark: SparkSession,
    warehouse: Warehouse,
    days: Sequence[date],
    *,
    users: int = 10,
    items: int = 8,
    each_day: int = 60,
    click_rate: Callable[[date], float] = lambda _: 0.3,
    zone: str = "UTC",
) -> None:
    """Impressions at random, at whole hours by the clocks of `zone`; the first of each day has a logged NaN."""
    rng = np.random.default_rng(3)
    rows = []
    for day in days:
        for n in range(each_day):
            user, item = f"u{rng.integers(users)}", f"i{rng.integers(items)}"
            at = datetime(day.year, day.month, day.day, n % 24, tzinfo=ZoneInfo(zone))
            logged = {"user_idle_days": math.nan} if n == 0 else None
            clicked = int(rng.random() < click_rate(day))
            rows.append((f"{day}-{n}", "r", user, item, 1 + n % 10, "phone", at, clicked, logged, str(day)))
    warehouse.write(dwd.impression, spark.createDataFrame(rows, IMPRESSIONS), days)
    people = [(f"u{i}", "F", "18-24", "Wuhan", datetime(2025, 1, 1), None, str(days[-1])) for i in range(users)]
    warehouse.write(dim.user, spark.createDataFrame(people, dim.user.partitioned_schema_text), days[-1:])
    things = [(f"i{i}", "t", "food", "a", datetime(2025, 1, 1), None, None, str(days[-1])) for i in range(items)]
    warehouse.write(dim.item, spark.createDataFrame(things, dim.item.partitioned_schema_text), days[-1:])
