"""Point partitions at new folders, several of them all or none: also when an error or a kill comes between two."""

import json
import logging
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby

from pyspark.sql import SparkSession

from conf import Config, Paths
from conf.atomic import write_atomically
from etl.metastore import catalog
from etl.metastore.connection import advisory_lock
from etl.table import quote

log = logging.getLogger(__name__)

# One set at a time, by the threads of a process and, on PostgreSQL, by all sessions: one that is recorded while nobody
# has the lock was interrupted. Derby serves one process, and Spark calls it from one thread at a time anyway.
_lock = threading.Lock()
_LOCK_NAME = "swaps"


@dataclass(frozen=True)
class Swap:
    """A partition's folders before and after; `old` is None for a new partition."""

    table: str
    column: str
    value: str
    old: str | None
    new: str

    @property
    def partition(self) -> str:
        """Its name in SQL."""
        return f"PARTITION (`{self.column}` = {quote(self.value)})"


def swap_partitions(spark: SparkSession, config: Config, swaps: Sequence[Swap]) -> None:
    """Point every partition at its new folder; none is left there when this raises.

    A reader sees each partition old or new, and some of each from the first metastore operation to the last. A kill
    makes that last until the next session opens, which begins with `take_back_interrupted`.
    """
    if len(swaps) <= 1:
        # One operation is whole by itself. This is most writes: they neither wait nor sync a file to the disk.
        _point_to_new(spark, swaps)
        return
    record = config.get(Paths).swaps
    with _lock, advisory_lock(spark, _LOCK_NAME):
        _take_back_recorded(spark, config)  # an earlier set of this process, of which the metastore refused that
        write_atomically(record, json.dumps([asdict(swap) for swap in swaps]))
        try:
            _point_to_new(spark, swaps)
        except BaseException:  # KeyboardInterrupt as well
            _take_back_recorded(spark, config)
            raise
        record.unlink()


def take_back_interrupted(spark: SparkSession, config: Config) -> None:
    """Point the partitions of an interrupted `swap_partitions` at their old folders again, and say so in the log.

    Back and not on: the stage has not ended, `ops_run` says nothing of it or that it failed. A partition that was
    replaced since stays as it is. Running this again is safe.
    """
    # Asked before the lock, which would cost every session a connection.
    if config.get(Paths).swaps.exists():
        with _lock, advisory_lock(spark, _LOCK_NAME):
            _take_back_recorded(spark, config)


def _take_back_recorded(spark: SparkSession, config: Config) -> None:
    record = config.get(Paths).swaps
    if not record.exists():
        return
    swaps = [Swap(**values) for values in json.loads(record.read_text(encoding="utf-8"))]
    tables = list(dict.fromkeys(swap.table for swap in swaps))
    for table in tables:
        if catalog.column_names(spark, table) is not None:  # else dropped by hand since
            _take_back(spark, [swap for swap in swaps if swap.table == table])
    record.unlink()
    log.warning("took back a change of %s that was interrupted: run its stage again", ", ".join(tables))


def _take_back(spark: SparkSession, swaps: Sequence[Swap]) -> None:
    """Take back those of one table's swaps that were done."""
    table, column = swaps[0].table, swaps[0].column
    current = {values[column]: catalog.comparable_url(url) for values, url in catalog.partition_locations(spark, table)}
    done = [swap for swap in swaps if current.get(swap.value) == catalog.comparable_url(swap.new)]
    catalog.set_locations(spark, table, column, {swap.value: swap.old for swap in done if swap.old is not None})
    if added := [swap.partition for swap in done if swap.old is None]:
        spark.sql(f"ALTER TABLE {table} DROP {', '.join(added)}")


def _point_to_new(spark: SparkSession, swaps: Sequence[Swap]) -> None:
    for table, of_table in groupby(swaps, key=lambda swap: swap.table):
        swaps_of_table = list(of_table)
        moved = {swap.value: swap.new for swap in swaps_of_table if swap.old is not None}
        catalog.set_locations(spark, table, swaps_of_table[0].column, moved)
        # All new partitions in one statement: each statement is a call to the metastore.
        if added := [f"{swap.partition} LOCATION {quote(swap.new)}" for swap in swaps_of_table if swap.old is None]:
            spark.sql(f"ALTER TABLE {table} ADD {' '.join(added)}")
