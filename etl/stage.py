"""Book-keeping of a stage: counts that must add up, and its row in `ops_run`, whether it ends well or not."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime

from conf.code import code_version
from conf.console.progress import waiting
from conf.masking import masked_text
from conf.runs import new_run_id
from etl.metastore.connection import advisory_lock
from etl.metastore.run_rows import StageStart, add_rows
from etl.metastore.swaps import complete_interrupted
from etl.spark_progress import spark_progress
from etl.tables import ops
from etl.warehouse.store import Warehouse

log = logging.getLogger(__name__)


@dataclass
class RowCounts:
    """Rows of one stage on one day, with rows_in = rows_out + rows_invalid + rows_quarantined.

    `rows_other_date` were read as well and belong to another day; they are not among `rows_in`.
    """

    rows_in: int = 0
    rows_out: int = 0
    rows_invalid: int = 0
    rows_quarantined: int = 0
    rows_other_date: int = 0

    def check(self, stage: str) -> None:
        """Raises RuntimeError when rows are lost or counted twice: a bug of the stage, not of its data."""
        accounted = self.rows_out + self.rows_invalid + self.rows_quarantined
        if self.rows_in != accounted:
            raise RuntimeError(f"{stage}: {self.rows_in} rows in, {accounted} accounted for: {self}")


@contextmanager
def stage_run(warehouse: Warehouse, stage: str, days: Sequence[date]) -> Iterator[dict[date, RowCounts]]:
    """Yield the counts to fill, one per day; on leaving, add a row per day to `ops_run`.

    The status is `failed`, with the error's first line, when the block raises, and the error goes on.

    Raises:
        RuntimeError: the counts do not add up.
    """
    # Days of one stage may touch the same partitions (a visit over midnight): they take turns, other stages don't wait.
    span = str(days[0]) if len(days) == 1 else f"{days[0]}..{days[-1]}"
    with advisory_lock(warehouse.spark, f"stage {stage}"):
        # Before it reads: another session may have been killed while this one was open, or waited for its turn.
        complete_interrupted(warehouse.spark, warehouse.config)
        started_at = datetime.now(UTC)
        counts = {day: RowCounts() for day in days}
        iso_days = tuple(day.isoformat() for day in days)
        warehouse.stage_start = StageStart(f"{stage}-{new_run_id()}", stage, iso_days, started_at.isoformat())
        try:
            with waiting(f"{stage} {span}", spark_progress(warehouse.spark)):
                yield counts
            for count in counts.values():
                count.check(stage)
        except Exception as error:  # not KeyboardInterrupt: who stops a stage by hand knows that it did not finish
            _record_failure(warehouse, stage, days, started_at, error)
            raise
        finally:
            warehouse.stage_start = None
        _record(warehouse, stage, counts, started_at, None)
        log.info("%s %s: %s", stage, span, ", ".join(f"{k} {v}" for k, v in total_counts(counts).items() if v))


def total_counts(counts: dict[date, RowCounts]) -> dict[str, int]:
    """Counts summed over the days, by name (`rows_in`, `rows_out` …): the result that a command prints."""
    # By the class's fields, so that no day at all still gives every name.
    rows = [asdict(count) for count in counts.values()]
    return {name: sum(row[name] for row in rows) for name in asdict(RowCounts())}


def _record_failure(
    warehouse: Warehouse, stage: str, days: Sequence[date], started_at: datetime, error: Exception
) -> None:
    lines = str(error).strip().splitlines()
    message = masked_text(lines[0]) if lines else type(error).__name__
    try:
        _record(warehouse, stage, {day: RowCounts() for day in days}, started_at, message)
    except Exception as second:  # a full disk, say: the first error is the one to report
        log.warning("the failure of %s could not be recorded in %s: %s", stage, ops.run.name, type(second).__name__)


def _record(
    warehouse: Warehouse, stage: str, counts: dict[date, RowCounts], started_at: datetime, error: str | None
) -> None:
    warehouse.ensure(ops.run)
    outcome = {
        "started_at": started_at,
        "ended_at": datetime.now(UTC),
        "status": "failed" if error else "done",
        "error": error,
        "code_version": code_version(),
    }
    rows = {
        day: {"run_id": f"{stage}-{new_run_id()}", "stage": stage, **asdict(count), **outcome}
        for day, count in counts.items()
    }
    add_rows(warehouse.spark, warehouse.config, rows)
