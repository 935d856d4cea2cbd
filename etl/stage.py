"""Book-keeping of a stage: counts that must add up, and its row in `ops_run`, whether it ends well or not."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from conf.code import code_version
from conf.runs import new_run_id
from etl.metastore.connection import advisory_lock
from etl.table import quote
from etl.tables import ops
from etl.warehouse.store import Warehouse

log = logging.getLogger(__name__)


@dataclass
class Counts:
    """Rows of one stage on one day; `rows_other_date` were seen on the way and belong to another day."""

    rows_in: int = 0
    rows_out: int = 0
    rows_invalid: int = 0
    rows_quarantined: int = 0
    rows_other_date: int = 0

    def check(self, stage: str) -> None:
        accounted = self.rows_out + self.rows_invalid + self.rows_quarantined
        if self.rows_in != accounted:
            raise RuntimeError(f"{stage}: {self.rows_in} rows in, {accounted} accounted for: {self}")


@contextmanager
def stage_run(warehouse: Warehouse, stage: str, days: Sequence[date]) -> Iterator[dict[date, Counts]]:
    """Yield the counts to fill, one a day; on leaving, add the rows to `ops_run` (status failed on an exception)."""
    # Days of one stage may touch the same partitions (a visit over midnight): they take turns, other stages don't wait.
    with advisory_lock(warehouse.spark, f"stage {stage}"):
        yield from _noted(warehouse, stage, days)


def _noted(warehouse: Warehouse, stage: str, days: Sequence[date]) -> Iterator[dict[date, Counts]]:
    started = datetime.now(UTC)
    counts = {day: Counts() for day in days}
    try:
        yield counts
        for count in counts.values():
            count.check(stage)
    except Exception as error:
        text = str(error).strip().splitlines()
        try:
            _record(
                warehouse, stage, {day: Counts() for day in days}, started, text[0] if text else type(error).__name__
            )
        except Exception as second:  # a full disk, say: what stopped the stage is the better thing to tell
            log.warning("the failure of %s could not be noted in %s: %s", stage, ops.run.name, type(second).__name__)
        raise
    _record(warehouse, stage, counts, started, None)
    total = total_counts(counts)
    log.info("%s %s: %s", stage, _span(days), ", ".join(f"{k} {v}" for k, v in total.items() if v))


def total_counts(counts: dict[date, Counts]) -> dict[str, int]:
    """Counts summed over the days: what a command prints."""
    rows = [asdict(count) for count in counts.values()]
    return {name: sum(row[name] for row in rows) for name in asdict(Counts())}


def _span(days: Sequence[date]) -> str:
    return str(days[0]) if len(days) == 1 else f"{days[0]}..{days[-1]}"


def _record(warehouse: Warehouse, stage: str, counts: dict[date, Counts], started: datetime, error: str | None) -> None:
    warehouse.ensure(ops.run)
    ended = datetime.now(UTC)
    status = "failed" if error else "done"
    partitions = []
    for day, count in counts.items():
        row = {
            "run_id": f"{stage}-{new_run_id()}",
            "stage": stage,
            **asdict(count),
            "started_at": started,
            "ended_at": ended,
            "status": status,
            "error": error,
            "code_version": code_version(),
        }
        location = _append(warehouse, day, row)
        value = quote(ops.run.partition_value(day))
        partitions.append(f"PARTITION (`{ops.run.partition}` = {value}) LOCATION {quote(location)}")
    with advisory_lock(warehouse.spark, ops.run.name):
        warehouse.spark.sql(f"ALTER TABLE {ops.run.name} ADD IF NOT EXISTS {' '.join(partitions)}")
    warehouse.spark.catalog.refreshTable(ops.run.name)


def _append(warehouse: Warehouse, day: date, row: dict[str, object]) -> str:
    """One file a run, put in place by one rename: appends by several processes never meet. Returns its folder."""
    location = f"{warehouse.root}/{ops.run.name}/{ops.run.partition}={ops.run.partition_value(day)}"
    system, folder = fs.FileSystem.from_uri(location)
    system.create_dir(folder, recursive=True)
    name = f"{row['run_id']}.parquet"
    pq.write_table(pa.Table.from_pylist([row], schema=_SCHEMA), f"{folder}/.{name}", filesystem=system)
    system.move(f"{folder}/.{name}", f"{folder}/{name}")
    return location


_ARROW = {"string": pa.string(), "bigint": pa.int64(), "timestamp": pa.timestamp("us", tz="UTC")}
_SCHEMA = pa.schema([(column.name, _ARROW[column.type]) for column in ops.run.columns])
