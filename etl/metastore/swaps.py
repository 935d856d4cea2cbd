"""Point partitions at new folders, several of them together: once their journal is on the disk, all of them change.

An error or a kill between two of them leaves the journal, by which the next session completes the change.
"""

import json
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

from pyspark.sql import SparkSession

from conf import Config, Paths, UserError, path_of_url
from conf.atomic import sync_file_system, sync_folder, write_atomically
from etl import compat
from etl.metastore import catalog
from etl.metastore.connection import advisory_lock
from etl.metastore.run_rows import StageStart, add_interrupted
from etl.metastore.settings import MetastoreSettings

log = logging.getLogger(__name__)

# One set at a time, by the threads of a process and, on PostgreSQL, by all sessions: one that is recorded while nobody
# has the lock was interrupted. Derby serves one process, and Spark calls it from one thread at a time anyway.
_lock = threading.Lock()
_MANY_PARTITIONS = 100
_LOCK_NAME = "swaps"


@dataclass(frozen=True)
class Swap:
    """A partition's folders before and after; `old` is None for a new partition."""

    table: str
    column: str
    value: str
    old: str | None
    new: str


@dataclass(frozen=True)
class Journal:
    """A decided change: its swaps, and the stage that makes it, if one does."""

    swaps: tuple[Swap, ...]
    stage_start: StageStart | None = None

    def write(self, path: Path) -> None:
        """Bring the journal to the disk; after an error there is none."""
        try:
            write_atomically(path, json.dumps(asdict(self)))
            sync_folder(path.parent)
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    @classmethod
    def read(cls, path: Path) -> "Journal | None":
        """The journal of a change that is going on or was interrupted; None when there is none.

        Raises:
            UserError: somebody has changed the file.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(values, list):  # of a release that took changes back: all data were written before, too
                values = {"swaps": values}
            start = values.get("stage_start")
            swaps = tuple(Swap(**swap) for swap in values["swaps"])
            return cls(swaps, StageStart(**{**start, "days": tuple(start["days"])}) if start else None)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError, AttributeError):
            raise UserError(f"{path} is no journal of changing partitions: was it edited? Bring it back") from None


def swap_partitions(
    spark: SparkSession, config: Config, plan: Callable[[], Sequence[Swap]], stage_start: StageStart | None = None
) -> Sequence[Swap]:
    """Point every partition at its new folder, whose files are whole and checked.

    A reader sees each partition old or new, and some of each from the first metastore operation to the last. A kill
    makes that last until the next session opens, which begins with `complete_interrupted`.

    Args:
        spark: the session.
        config: where the journal is.
        plan: gives the swaps, from what the partitions have now; called again where that may have changed.
        stage_start: the stage that writes, for its row in `ops_run` should it be killed.

    Returns:
        The swaps, all of them done.

    Raises:
        UserError, or what Spark raises: before the journal is on the disk nothing has changed; after that the
            metastore refused twice, and the next session completes the change.
    """
    swaps = plan()
    # The metastore's own database is synced at each change: after a power cut it must not point at files that are not.
    _sync_files(swaps)
    if len(swaps) <= 1:
        _point_to_new(spark, swaps)  # one operation is whole by itself: this is most writes, and they need not wait
        return swaps
    path = config.get(Paths).swaps
    with _lock, advisory_lock(spark, _LOCK_NAME):
        was_interrupted = _complete_recorded(spark, config)  # an earlier set, of which the metastore refused that
        if was_interrupted or not config.get(MetastoreSettings).is_embedded:
            swaps = plan()  # by what other sessions have changed since
        Journal(tuple(swaps), stage_start).write(path)
        try:
            _point_to_new(spark, swaps)
        except Exception:  # it is decided: once more, as the next session would do
            _complete(spark, path, swaps)
        except BaseException:  # KeyboardInterrupt: the stage does not go on to record its end
            _complete_recorded(spark, config)
            raise
        _remove(path)
    return swaps


def complete_interrupted(spark: SparkSession, config: Config) -> None:
    """Complete what an interrupted `swap_partitions` had decided, and say so in the log and in `ops_run`.

    On and not back: a reader may have seen the first of its partitions. One that was replaced since, or dropped, stays
    as it is. Running this again is safe, also after a kill in the middle.

    Raises:
        UserError: a folder of the change is gone; nothing is changed.
    """
    # Asked before the lock, which would cost every session a connection.
    if config.get(Paths).swaps.exists():
        with _lock, advisory_lock(spark, _LOCK_NAME):
            _complete_recorded(spark, config)


def decided_folders(config: Config) -> set[str]:
    """The folders that an unfinished change is going to point at, as `comparable_url` writes them."""
    journal = Journal.read(config.get(Paths).swaps)
    return {catalog.comparable_url(swap.new) for swap in journal.swaps} if journal else set()


def _complete_recorded(spark: SparkSession, config: Config) -> bool:
    """Whether there was a change to complete."""
    path = config.get(Paths).swaps
    journal = Journal.read(path)
    if journal is None:
        return False
    _complete(spark, path, journal.swaps)
    tables = ", ".join(dict.fromkeys(swap.table for swap in journal.swaps))
    log.warning("completed a change of %s that was interrupted: run its stage again for its counts", tables)
    if journal.stage_start is not None:
        try:
            add_interrupted(spark, config, journal.stage_start)
        except OSError as error:  # a full disk: the journal stays, and the next session tries again
            log.warning("the interrupted run could not be recorded in ops_run: %s", type(error).__name__)
            return True
    _remove(path)
    return True


def _complete(spark: SparkSession, path: Path, swaps: Sequence[Swap]) -> None:
    """Do those swaps that are not done; a partition that has neither its old nor its new folder was changed since."""
    pending = []
    for table, of_table in _by_table(swaps):
        if catalog.column_names(spark, table) is None:
            continue  # dropped by hand since
        column = of_table[0].column
        current = catalog.locations_of(spark, table, column, [swap.value for swap in of_table])
        pending += [swap for swap in of_table if _same(current.get(swap.value), swap.old)]
    for swap in pending:
        if not _exists(spark, swap.new):
            raise UserError(
                f"an interrupted change of {swap.table} can't be completed, {swap.new} is gone: bring the folder back, "
                f"or remove {path} and run the stage that wrote it again"
            )
    _point_to_new(spark, pending)


def _point_to_new(spark: SparkSession, swaps: Sequence[Swap]) -> None:
    for table, of_table in _by_table(swaps):
        moved = {swap.value: swap.new for swap in of_table if swap.old is not None}
        catalog.set_locations(spark, table, of_table[0].column, moved)
        added = {swap.value: swap.new for swap in of_table if swap.old is None}
        catalog.add_partitions(spark, table, of_table[0].column, added)


def _by_table(swaps: Sequence[Swap]) -> Iterable[tuple[str, list[Swap]]]:
    return ((table, list(of_table)) for table, of_table in groupby(swaps, key=lambda swap: swap.table))


def _same(one: str | None, other: str | None) -> bool:
    if one is None or other is None:
        return one is other
    return catalog.comparable_url(one) == catalog.comparable_url(other)


def _exists(spark: SparkSession, url: str) -> bool:
    path = compat.jvm_of(spark).org.apache.hadoop.fs.Path(url)
    return bool(path.getFileSystem(compat.hadoop_configuration(spark)).exists(path))


def _sync_files(swaps: Iterable[Swap]) -> None:
    """Bring local files, and the names of their folders, to the disk, which the journal refers to for good."""
    partitions = {path for swap in swaps if (path := path_of_url(swap.new)) is not None}
    runs = {path.parent for path in partitions}
    # One by one, thousands of small files wait for the disk longer than for all else.
    if len(partitions) > _MANY_PARTITIONS and all(sync_file_system(root) for root in {run.parent for run in runs}):
        return
    for path in partitions:
        sync_folder(path, with_files=True)
    for path in runs | {path.parent for path in runs}:
        sync_folder(path)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    sync_folder(path.parent)  # else a power cut brings it back
