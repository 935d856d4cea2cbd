"""Lines that could not be read, kept with their reason and place in ods_quarantine."""

from collections.abc import Sequence
from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from etl.metastore.connection import advisory_lock
from etl.sources.lines import MAX_QUARANTINED_CHARS, valid_utf8, with_line_numbers
from etl.tables import ods
from etl.warehouse.store import Warehouse


def replace(
    warehouse: Warehouse, stage: str, lines: DataFrame, refused: DataFrame, days: Sequence[date]
) -> dict[date, int]:
    """Put `refused` in place of what `stage` refused on those days, leave other stages' rows; rows of each day.

    `refused` has `reason`, `dt` and the columns of `lines`, which are all lines of its files.
    """
    with advisory_lock(warehouse.spark, ods.quarantine.name):  # stages share its partitions
        kept = warehouse.read(ods.quarantine, days).where(F.col("stage") != stage)
        _write(warehouse, stage, kept, with_line_numbers(lines, refused), days)
    written = warehouse.read(ods.quarantine, days).where(F.col("stage") == stage)
    counts = dict.fromkeys(days, 0)
    for row in written.groupBy("dt").count().collect():
        counts[date.fromisoformat(row["dt"])] = row["count"]
    return counts


def _write(warehouse: Warehouse, stage: str, kept: DataFrame, refused: DataFrame, days: Sequence[date]) -> None:
    fresh = refused.select(
        F.lit(stage).alias("stage"),
        "reason",
        "file",
        "line_number",
        F.substring(valid_utf8("line"), 1, MAX_QUARANTINED_CHARS).alias("line"),
        "dt",
    )
    warehouse.write(ods.quarantine, fresh.unionByName(kept), days)
