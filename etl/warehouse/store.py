"""The warehouse: reads tables, and replaces whole partitions so that a reader sees the old or the new one.

A partition is written to a folder of its own run, checked there, then swapped in by one metastore operation. A kill at
any moment leaves the old partition, or the new one; where one write has several, all old or, once the swaps have begun,
all new as soon as the next session opens. `vacuum.py` removes folders that no partition points at.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from functools import reduce
from typing import TYPE_CHECKING

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from conf import Config, Paths, UserError
from conf.runs import new_run_id
from etl.metastore import catalog
from etl.metastore.partition_rows import FEW_PARTITIONS
from etl.metastore.run_rows import StageStart
from etl.metastore.swaps import Swap, swap_partitions
from etl.metastore.versions import add_columns, missing_columns
from etl.settings import SparkSettings
from etl.table import Table, any_of
from etl.warehouse.files import WarehouseFiles
from etl.warehouse.own_writes import OwnWrites, Written, sharing_files
from etl.warehouse.quality import check_rows
from etl.warehouse.small.checks import STAGED, count_if_sound
from etl.warehouse.small.staged import write_files, write_staged
from etl.warehouse.small.tables import write_partitions

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)

_REPLACED = ".replaced"
_MANY_DAYS = 100  # the write of so many is logged: the next line is minutes away
_MAX_CACHED_BYTES = 100 << 20  # of Parquet files, which are far larger in memory


class Warehouse:
    """Tables of one installation, through one Spark session."""

    def __init__(self, spark: SparkSession, config: Config) -> None:
        self.spark = spark
        self.config = config
        self.root = config.get(Paths).warehouse
        self.files = WarehouseFiles(spark)
        self._is_local = config.get(SparkSettings).is_local  # else its files may be another machine's
        self._ensured: set[Table] = set()  # an instance asks the metastore once per table
        # Kept here and not derived from plans: a result may come from a cached or collected frame.
        self._partitions_read: dict[Table, set[str] | None] = {}  # None: all of the table's
        self._pending: list[Written] | None = None  # within `whole_or_nothing`
        self._reads_pending = self._is_small = False
        self._own = OwnWrites()
        self.stage_start: StageStart | None = None  # within `stage_run`

    # --- reading ---

    def read(self, table: Table, days: Sequence[date] | None = None) -> DataFrame:
        """Rows of the partitions of `days`, or of all partitions; no rows where nothing was written yet.

        The table is created if it does not exist. What is read is recorded for `sources`.
        """
        # Tracked even without rows: that a day was empty is part of what a result comes from.
        self._track_read(table, None if days is None else [table.partition_value(day) for day in days])
        return self._select(table, days)

    def newest_snapshot(self, table: Table, day: date) -> DataFrame:
        """The rows of the newest partition not after `day`.

        Raises:
            UserError: there is none; the message says how to get one.
        """
        partitions = self.partitions(table)
        values = [value for value in partitions if value <= table.partition_value(day)]
        if not values:
            # An ingested data set has one snapshot, of its last day.
            first = f"; the first is of {partitions[0]}: choose that day or a later one, or" if partitions else ":"
            raise UserError(
                f"{table.name} has no snapshot up to {day}{first} run `millrace etl import --date {day}` for users and "
                "items of a database, or `millrace ingest interactions --ratings FILE --format FORMAT` for files of "
                "another system (--users and --items for what is known of them)"
            )
        self._track_read(table, [max(values)])
        # A filter by a literal, which Spark prunes partitions by; a join with the newest value would read them all.
        return self._select(table).where(F.col(table.partition) == max(values))

    def has_partition(self, table: Table, day: date) -> bool:
        """Whether the partition of `day` was ever written; it may be empty."""
        return table.partition_value(day) in self.partitions(table)

    def written_days(self, table: Table, days: Sequence[date]) -> list[date]:
        """Those of `days` whose partition was ever written, as `has_partition`: one call to the metastore for all."""
        partitions = set(self.partitions(table))
        return [day for day in days if table.partition_value(day) in partitions]

    def partitions(self, table: Table) -> list[str]:
        """All partition values, sorted: both ways to write a day sort by time."""
        self.ensure(table)
        # From the metastore: distinct values of the column would read the footers of every file.
        return sorted(catalog.partition_values(self.spark, table.name, table.partition))

    def locations(self, table: Table) -> dict[str, str]:
        """Partition value -> URL of the folder that readers open, without a slash at its end."""
        self.ensure(table)
        locations = catalog.locations_of(self.spark, table.name, table.partition)
        return {value: catalog.comparable_url(url) for value, url in locations.items()}

    def sources(self) -> list[dict[str, str]]:
        """Every partition that was read through this object, with its folder: what a result was computed from.

        One dict per partition with `table`, `partition` and `location`, sorted; it is saved with data sets.
        """
        sources = []
        for table, partitions in self._partitions_read.items():
            for value, location in self.locations(table).items():
                if partitions is None or value in partitions:
                    sources.append({"table": table.name, "partition": value, "location": location})
        return sorted(sources, key=lambda row: (row["table"], row["partition"]))

    def _select(self, table: Table, days: Sequence[date] | None = None) -> DataFrame:
        self.ensure(table)
        if days is None:
            pending = sorted(self._own.of(self.stage_start, table)) if self._reads_pending else []
            others = self.spark.table(table.name)
            if not pending:
                return others
            is_other = f"not ({any_of(table.partition, pending)})"
            return others.where(is_other).unionByName(self._select_values(table, pending))
        return self._select_values(table, [table.partition_value(day) for day in days])

    def _select_values(self, table: Table, values: Sequence[str]) -> DataFrame:
        by_folder: dict[str | None, list[str]] = {}
        own = self._own.of(self.stage_start, table)
        for value in values:
            by_folder.setdefault(own.get(value), []).append(value)
        if not self._reads_pending and len(by_folder) > 1:
            by_folder = {None: list(values)}
        parts = [self._read_part(table, folder, part) for folder, part in by_folder.items()]
        return reduce(DataFrame.unionByName, parts) if parts else self._no_rows(table)

    def _read_part(self, table: Table, folder: str | None, values: Sequence[str]) -> DataFrame:
        """The partitions of one run's folder that this stage wrote, or those of the metastore."""
        if folder is not None:
            # The metastore would name the same folder, after some queries of its database.
            rows = self._read_folder(table, folder)
        elif self._reads_pending and len(values) <= FEW_PARTITIONS and not self._locations_of(table, values):
            return self._no_rows(table)  # which makes a short plan of what joins them
        else:
            rows = self.spark.table(table.name)
        return rows.where(any_of(table.partition, values))

    def _no_rows(self, table: Table) -> DataFrame:
        nulls = [f"cast(null as {column.type}) as `{column.name}`" for column in table.columns]
        return self.spark.sql(f"select {', '.join(nulls)}, '' as `{table.partition}` where false")

    def _locations_of(self, table: Table, values: Sequence[str]) -> dict[str, str]:
        return catalog.locations_of(self.spark, table.name, table.partition, values)

    def _read_folder(self, table: Table, folder: str) -> DataFrame:
        # With the schema given: inferring it would start a job, and an empty folder has none.
        return self.spark.read.schema(table.partitioned_schema_text).parquet(self._own.readable(folder))

    def local_folders(self, table: Table, days: Sequence[date]) -> list[str] | None:
        """Folders with the rows of the days and no others, for readers beside Spark; None where it isn't local."""
        values = [table.partition_value(day) for day in days]
        self._track_read(table, values)
        return self._folders(table, values) if self._is_local else None

    def _track_read(self, table: Table, values: Sequence[str] | None) -> None:
        tracked = self._partitions_read.setdefault(table, set())
        self._partitions_read[table] = None if values is None or tracked is None else tracked | set(values)

    def ensure(self, *tables: Table) -> None:
        """Create tables that do not exist, and add columns that their descriptions gained at the end.

        One call to the metastore for all of them. Added columns are null in old rows.

        Raises:
            UserError: the columns differ in any other way; no data is changed silently.
        """
        tables = tuple(table for table in tables if table not in self._ensured)
        if not tables:
            return
        columns = catalog.columns_by_table(self.spark, [table.name for table in tables])
        for table in tables:
            self._ensure(table, columns.get(table.name))
            self._ensured.add(table)

    def _ensure(self, table: Table, existing: list[str] | None) -> None:
        if existing is None:
            self.spark.sql(table.create_statement(f"{self.root}/{table.name}"))
            return
        missing = missing_columns(table, existing)
        if missing is None:
            raise UserError(
                f"{table.name} in the metastore has columns {existing}, its description has {table.column_names}: "
                f"run `millrace sql 'drop table {table.name}'` (files stay) and rerun the stages that write it"
            )
        if missing:
            add_columns(self.spark, table.name, missing)

    # --- writing ---

    @contextmanager
    def whole_or_nothing(self, *, reads_pending: bool = False, is_small: bool = False) -> Iterator[None]:
        """Tables written in the block change together at its end, or not at all when it raises or is killed.

        Until then all of them are read as they were; with `reads_pending`, by this instance as they will be. Readers
        see some old and some new only during the swaps, one or more for each table; after a kill there, until the next
        command completes them. `is_small` says that all tables' rows are likely to fit into this process's memory: it
        makes the folders of many days faster than Spark.
        """
        pending: list[Written] = []
        self._pending, self._reads_pending, self._is_small = pending, reads_pending, is_small and self._is_local
        try:
            yield
        except BaseException:
            for _, folder, _ in pending:
                self.files.delete(folder)
            raise
        finally:
            self._pending, self._reads_pending, self._is_small = None, False, False
            staged, self._own.staged = self._own.staged, set()
        for folder in staged:
            self.files.delete(f"{folder}/{STAGED}")
        self._publish(pending)

    def write(
        self,
        table: Table,
        rows: "DataFrame | pa.Table",
        days: Sequence[date],
        *,
        rebalance: bool = True,
        before_checks: Callable[[DataFrame], None] | None = None,
        at_once: bool = False,
    ) -> dict[date, int]:
        """Replace the partitions of `days` by `rows`; a day without rows becomes an empty partition.

        Tables that read this one's files (`files_of`) get the new partitions as well.

        Args:
            table: the table to write.
            rows: the table's columns, which are cast to its types, and its partition column; of `small.tables.answer`
                with these types already.
            days: the days whose partitions are replaced.
            rebalance: even out the sizes of files at the cost of a shuffle; not needed where they are even anyway.
            before_checks: gets the written rows before they are checked, to write what the checks refer to.
            at_once: also within `whole_or_nothing`: for a table that other stages may write meanwhile.

        Returns:
            The number of rows of each day.

        Raises:
            QualityError: a check failed; the old partitions stay.
            ValueError: there are rows for other days.
        """
        self.ensure(table)
        values = {table.partition_value(day): day for day in days}
        # A fresh folder for each write: files that a reader has planned to read are never changed.
        folder = f"{self.root}/{table.name}/run-{new_run_id()}"
        try:
            if not isinstance(rows, DataFrame):
                write_partitions(table, rows, folder)
            # Not what is published at once: its staged files would stay beside its partitions when the load fails.
            elif self._is_small and not at_once and len(values) > 1 and write_staged(self.files, table, rows, folder):
                self._own.staged.add(folder)
            else:
                write_files(table, rows, folder, list(values), rebalance)
            counts = self._check_files(table, folder, list(values), before_checks)
            if stray := set(counts) - set(values):
                raise ValueError(f"rows for {sorted(stray)} in a write of {sorted(values)} to {table.name}")
            # A day without rows has no folder yet.
            self.files.make_folders(folder, [f"{table.partition}={value}" for value in values if not counts[value]])
        except BaseException:  # KeyboardInterrupt as well; after a kill, vacuum finds the folder
            self.files.delete(folder)
            raise
        written = (table, folder, list(values))
        if self._pending is None or at_once:
            self._publish([written])
        else:
            self._pending.append(written)
            if self._reads_pending:
                self._own.note(self.stage_start, [written])
        if len(days) >= _MANY_DAYS:
            log.info("%s: %s rows of %s days", table.name, sum(counts.values()), len(days))
        return {values[value]: count for value, count in counts.items()}

    def _publish(self, writes: Sequence[Written]) -> None:
        # All that takes time comes before the first swap or after the last. When a swap fails, the folders stay for
        # vacuum: a metastore that is out of reach may still point at them.
        def plan() -> list[Swap]:
            return [
                swap
                for table, folder, values in writes
                for reader in (table, *sharing_files(table))
                for swap in self._swaps(reader, folder, values)
            ]

        swaps = swap_partitions(self.spark, self.config, plan, self.stage_start)
        self._own.note(self.stage_start, writes)
        for location in {catalog.comparable_url(swap.old) for swap in swaps if swap.old is not None}:
            self.note_replaced(location.rsplit("/", 1)[0])

    def _swaps(self, table: Table, folder: str, values: list[str]) -> Iterator[Swap]:
        """What points a table's partitions at a run's folder: readers that have planned go on with the old files."""
        self.ensure(table)
        old = self._locations_of(table, values)
        for value in values:
            yield Swap(table.name, table.partition, value, old.get(value), f"{folder}/{table.partition}={value}")

    def _check_files(
        self, table: Table, folder: str, values: list[str], before_checks: Callable[[DataFrame], None] | None
    ) -> dict[str, int]:
        # What was written is checked, not the rows: to compute them again may cost minutes, or give other ones.
        written = self._read_folder(table, folder)
        if before_checks is None:
            return self._check_written(table, folder, values, written)
        # To open thousands of small files takes longer than to read them, and each check would do so again.
        if len(values) >= _MANY_DAYS and folder not in self._own.staged and self.files.size(folder) < _MAX_CACHED_BYTES:
            written.persist()
        try:
            before_checks(written)
            return self._check_written(table, folder, values, written)
        finally:
            written.unpersist()

    def _check_written(self, table: Table, folder: str, values: list[str], written: DataFrame) -> dict[str, int]:
        counts = count_if_sound(table, folder, values, self._folders) if self._is_local else None
        return check_rows(table, written, values, self._select_values) if counts is None else counts

    def _folders(self, table: Table, values: Sequence[str]) -> list[str]:
        """Folders of those partitions that exist, or one that has the rows of all of them and no others."""
        self.ensure(table)
        own = self._own.folders(self.stage_start, table, values)
        others = [value for value in values if value not in own]
        located = self._locations_of(table, others) if others else {}
        return list(dict.fromkeys([*own.values(), *located.values()]))

    def check(self, table: Table) -> dict[str, int]:
        """Run the table's checks on all its partitions, as `write` does on new ones.

        Returns partition value -> number of rows. Raises QualityError when a check fails.
        """
        partitions = self.partitions(table)
        return check_rows(table, self.read(table), partitions, self._select_values)

    def note_replaced(self, folder: str) -> None:
        """Note the time in a run's folder that was replaced: from then on `vacuum` counts its age."""
        # A file's time, which every file system has; with a dot, so that no reader takes it for data.
        self.files.touch(f"{folder}/{_REPLACED}")

    def replaced_at(self, folder: str) -> float | None:
        """When `note_replaced` was called for a run's folder last, in seconds since the epoch; None when never."""
        marks = [child.modified_at for child in self.files.list_folder(folder) if child.name == _REPLACED]
        return marks[0] if marks else None
