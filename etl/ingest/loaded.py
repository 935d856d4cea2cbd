"""Which files' rows are loaded already: the hash of each file's rows of a day, in ops_watermark."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from etl.ingest.columns import FileRole
from etl.tables import ops
from etl.warehouse.store import Warehouse

_PREFIX = "ingest "
_CHECK_COLUMN = "content hash"


@dataclass(frozen=True)
class FileDay:
    """The rows of one day in one file."""

    file: str
    day: date
    content_hash: str
    rows: int
    role: FileRole = "ratings"


def content_hash() -> Column:
    """An aggregate over lines that is the same for the same lines in any order, packed or not."""
    line = F.xxhash64("line")
    # Sums of both halves, which can't overflow, and no exclusive or, in which doubled lines cancel out.
    parts = [F.sum(F.shiftrightunsigned(line, 32)), F.sum(line.bitwiseAND(F.lit(0xFFFFFFFF))), F.count("*")]
    return F.substring(F.sha2(F.concat_ws(" ", *[part.cast("string") for part in parts]), 256), 1, 32)


def loaded_hashes(warehouse: Warehouse, days: Sequence[date]) -> dict[date, set[str]]:
    """The hashes of the rows that each day has of earlier files."""
    rows = warehouse.read(ops.watermark, days).where(F.startswith("import_name", F.lit(_PREFIX))).collect()
    hashes: dict[date, set[str]] = {day: set() for day in days}
    for row in rows:
        hashes[date.fromisoformat(row["dt"])].add(row["import_name"].removeprefix(_PREFIX))
    return hashes


def record(warehouse: Warehouse, file_days: Iterable[FileDay], days: Sequence[date], *, replaces: bool) -> None:
    """Add the files' hashes to the watermarks of the days; with `replaces`, instead of those of earlier files."""
    recorded_at = datetime.now(UTC).replace(tzinfo=None)
    rows = {
        (one.day, one.content_hash): (
            _PREFIX + one.content_hash, _CHECK_COLUMN, one.file, "str", recorded_at, one.day.isoformat()
        )
        for one in file_days
    }  # fmt: skip
    own = warehouse.spark.createDataFrame(list(rows.values()), ops.watermark.partitioned_schema_text)
    others: DataFrame = warehouse.read(ops.watermark, days)
    if replaces:
        others = others.where(~F.startswith("import_name", F.lit(_PREFIX)))
    else:
        others = others.join(F.broadcast(own.select("import_name", "dt")), on=["import_name", "dt"], how="left_anti")
    warehouse.write(ops.watermark, own.unionByName(others), days, rebalance=False)


def forget(warehouse: Warehouse, days: Sequence[date]) -> list[date]:
    """Forget what was loaded of days that another stage has replaced, so that it can be loaded again.

    Returns:
        The days that had rows of an ingest.
    """
    ingested = F.startswith("import_name", F.lit(_PREFIX))
    rows = warehouse.read(ops.watermark, days)
    replaced = [date.fromisoformat(row["dt"]) for row in rows.where(ingested).select("dt").distinct().collect()]
    if replaced:
        others = warehouse.read(ops.watermark, replaced).where(~ingested).localCheckpoint()
        warehouse.write(ops.watermark, others, replaced, rebalance=False)
    return sorted(replaced)
