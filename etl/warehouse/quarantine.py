"""Lines that could not be parsed, stored with their reason and place in ods_quarantine."""

from collections.abc import Sequence
from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from etl.metastore.connection import advisory_lock
from etl.sources.lines import MAX_QUARANTINED_CHARS, with_line_numbers
from etl.tables import ods
from etl.warehouse.store import Warehouse


def replace(
    warehouse: Warehouse, stage: str, lines: DataFrame, refused: DataFrame, days: Sequence[date]
) -> dict[date, int]:
    """Replace the quarantined lines of `stage` on `days`; those of other stages stay.

    Args:
        warehouse: where ods_quarantine is.
        stage: weblog, events, ingest or covers.
        lines: all lines of the files, from `read_lines`: line numbers are counted over them.
        refused: the lines to quarantine: `reason`, `dt`, and the columns of `lines`.
        days: the partitions to replace.

    Returns:
        The number of quarantined lines of each day.
    """
    return replace_rows(warehouse, stage, with_line_numbers(lines, refused), days)


def replace_rows(
    warehouse: Warehouse, stage: str, rows: DataFrame, days: Sequence[date], files: Sequence[str] | None = None
) -> dict[date, int]:
    """As `replace`, for rows that have their `line_number` already: 0 for a row of a table, which has none.

    With `files`, only the lines of these are replaced, and counted.
    """
    is_replaced = F.col("stage") == stage
    if files is not None:
        is_replaced &= F.col("file").isin(list(files))
    with advisory_lock(warehouse.spark, ods.quarantine.name):  # stages share its partitions
        others = warehouse.read(ods.quarantine, days).where(~is_replaced)
        fresh = rows.select(
            F.lit(stage).alias("stage"),
            "reason",
            "file",
            "line_number",
            # Invalid bytes become U+FFFD: a Parquet string must be UTF-8, and other readers refuse a file that lies.
            F.substring(F.make_valid_utf8("line"), 1, MAX_QUARANTINED_CHARS).alias("line"),
            F.col("column_name") if "column_name" in rows.columns else F.lit(None).cast("string").alias("column_name"),
            "dt",
        )
        warehouse.write(ods.quarantine, fresh.unionByName(others), days, at_once=True)
    # Counted from the table, not from `refused`, whose lines would be parsed again.
    written = warehouse.read(ods.quarantine, days).where(is_replaced)
    counts = dict.fromkeys(days, 0)
    for row in written.groupBy("dt").count().collect():
        counts[date.fromisoformat(row["dt"])] = row["count"]
    return counts
