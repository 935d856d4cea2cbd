"""The warehouse: reads tables, and replaces whole partitions so that a reader sees the old or the new one.

A partition is written to a folder of that run, checked there, then swapped in by one metastore operation. A kill at
any moment leaves the old partition; `vacuum` removes folders that no partition points at.
"""

import logging
import time
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from conf import Config, Paths, UserError
from conf.runs import new_run_id
from etl.metastore import catalog
from etl.table import Table, quote
from etl.tables import ALL
from etl.warehouse.quality import check_rows

log = logging.getLogger(__name__)


class Warehouse:
    """Tables of one installation, through one Spark session."""

    def __init__(self, spark: SparkSession, config: Config) -> None:
        self.spark = spark
        self.root = config.get(Paths).warehouse
        self._known: set[Table] = set()  # tables that this object has found or made
        self._sources: dict[Table, set[str] | None] = {}  # partitions that were read; None: all

    # --- reading ---

    def read(self, table: Table, days: Sequence[date] | None = None) -> DataFrame:
        """Rows of the partitions of `days` (all when None); no rows where nothing was written yet."""
        self._note(table, None if days is None else [table.partition_value(day) for day in days])
        return self._rows(table, days)

    def has_partition(self, table: Table, day: date) -> bool:
        """Whether the partition of `day` was ever written."""
        return table.partition_value(day) in self.partitions(table)

    def newest_snapshot(self, table: Table, day: date) -> DataFrame:
        """The newest snapshot not after `day`. Raises UserError when there is none."""
        known = [value for value in self.partitions(table) if value <= table.partition_value(day)]
        if not known:
            raise UserError(f"{table.name} has no snapshot up to {day}: import it first (`millrace etl import`)")
        self._note(table, [max(known)])
        return self._rows(table).where(F.col(table.partition) == max(known))

    def sources(self) -> list[dict[str, str]]:
        """Every partition that was read through this object, and the folder that it is in: where results come from."""
        found = []
        for table, wanted in self._sources.items():
            for value, location in self.locations(table).items():
                if wanted is None or value in wanted:
                    found.append({"table": table.name, "partition": value, "location": location})
        return sorted(found, key=lambda row: (row["table"], row["partition"]))

    def _rows(self, table: Table, days: Sequence[date] | None = None) -> DataFrame:
        self.ensure(table)
        rows = self.spark.table(table.name)
        if days is None:
            return rows
        return rows.where(F.col(table.partition).isin([table.partition_value(day) for day in days]))

    def _note(self, table: Table, values: Sequence[str] | None) -> None:
        known = self._sources.setdefault(table, set())
        self._sources[table] = None if values is None or known is None else known | set(values)

    def partitions(self, table: Table) -> list[str]:
        """Partition values, in order."""
        self.ensure(table)
        rows = self.spark.sql(f"SHOW PARTITIONS {table.name}").collect()
        return sorted(row[0].split("=", 1)[1] for row in rows)

    def ensure(self, table: Table) -> None:
        """Create the table when it is not there; columns that its description gained at the end are added, null in old
        rows.

        Any other change of columns is refused, not made silently.
        """
        if table in self._known:
            return
        known = catalog.columns(self.spark, table.name)
        wanted = [name.lower() for name in table.column_names]
        if known is None:
            self.spark.sql(table.create_statement(f"{self.root}/{table.name}"))
        elif [name.lower() for name in known] == wanted[: len(known)] and len(known) < len(wanted):
            added = ", ".join(f"`{c.name}` {c.type} COMMENT {quote(c.comment)}" for c in table.columns[len(known) :])
            self.spark.sql(f"ALTER TABLE {table.name} ADD COLUMNS ({added})")
        elif [name.lower() for name in known] != wanted:
            raise UserError(
                f"{table.name} in the metastore has columns {known}, its description has {table.column_names}: "
                f"run `millrace sql 'drop table {table.name}'` (files stay) and rerun the stages that write it"
            )
        self._known.add(table)

    # --- writing ---

    def write(
        self,
        table: Table,
        rows: DataFrame,
        days: Sequence[date],
        *,
        rebalance: bool = True,
        before_checks: Callable[[DataFrame], None] | None = None,
    ) -> dict[date, int]:
        """Replace the partitions of `days` by `rows` and return the rows of each; a day without rows becomes empty.

        `rows` has the table's columns and its partition column. `rebalance` evens out the files' sizes at the price of
        a shuffle: leave it out where they come out even. `before_checks` gets the written rows, to make what the
        checks refer to. Tables that are made of this one's files follow. Raises QualityError when a check fails.
        """
        self.ensure(table)
        values = {table.partition_value(day): day for day in days}
        folder = f"{self.root}/{table.name}/run-{new_run_id()}"
        try:
            self._write_files(table, rows, folder, list(values), rebalance)
            written = self._read_files(table, folder)
            if before_checks is not None:
                before_checks(written)
            counts = check_rows(table, written, list(values), self._rows)
            if stray := set(counts) - set(values):
                raise ValueError(f"rows for {sorted(stray)} in a write of {sorted(values)} to {table.name}")
        except BaseException:
            self._delete(folder)
            raise
        for other in (table, *_made_of_its_files(table)):
            self._swap(other, folder, list(values))
        return {values[value]: count for value, count in counts.items()}

    def _write_files(self, table: Table, rows: DataFrame, folder: str, values: list[str], rebalance: bool) -> None:
        columns = [F.col(column.name).cast(column.type).alias(column.name) for column in table.columns]
        value = F.col(table.partition).cast("string")
        if len(values) == 1:
            # Writing by partition would sort all rows for it.
            is_ours = F.when(value == values[0], True).otherwise(
                F.raise_error(F.concat(F.lit(f"a row for another day in a write to {table.name}: "), value))
            )
            selected = rows.where(is_ours).select(*columns)
            selected = selected.hint("rebalance") if rebalance else selected
            selected.write.parquet(f"{folder}/{table.partition}={values[0]}")
            return
        selected = rows.select(*columns, value.alias(table.partition))
        # Rebalancing merges small files and splits a skewed partition.
        selected.hint("rebalance", table.partition).write.partitionBy(table.partition).parquet(folder)

    def _read_files(self, table: Table, folder: str) -> DataFrame:
        fields = [f"`{column.name}` {column.type}" for column in table.columns]
        schema = ", ".join([*fields, f"`{table.partition}` string"])
        return self.spark.read.schema(schema).parquet(folder)

    def check(self, table: Table) -> dict[str, int]:
        """Run the checks on all partitions; rows of each. Raises QualityError."""
        return check_rows(table, self.read(table), self.partitions(table), self._rows)

    def _swap(self, table: Table, folder: str, values: list[str]) -> None:
        existing = set(self.partitions(table))
        added = []
        for value in values:
            location = f"{folder}/{table.partition}={value}"
            self._file_system(location).mkdirs(self._path(location))  # an empty day has no folder yet
            partition = f"PARTITION (`{table.partition}` = {quote(value)})"
            if value in existing:
                self.spark.sql(f"ALTER TABLE {table.name} {partition} SET LOCATION {quote(location)}")
            else:
                added.append(f"{partition} LOCATION {quote(location)}")
        if added:
            self.spark.sql(f"ALTER TABLE {table.name} ADD {' '.join(added)}")
        self.spark.catalog.refreshTable(table.name)

    def publish_files(self, folder: str, write: Callable[[str], object]) -> None:
        """Let `write` fill a hidden folder beside `folder`, then put it in its place."""
        parent, name = folder.rsplit("/", 1)
        fresh, old = f"{parent}/.{name}.new", f"{parent}/.{name}.old"
        system = self._file_system(folder)
        for leftover in (fresh, old):
            system.delete(self._path(leftover), True)
        write(fresh)
        if system.exists(self._path(folder)):
            system.rename(self._path(folder), self._path(old))
        system.rename(self._path(fresh), self._path(folder))
        system.delete(self._path(old), True)

    # --- housekeeping ---

    def vacuum(self, table: Table, *, older_than_s: float) -> int:
        """Remove run folders that no partition points at and that are older than `older_than_s`; return how many.

        The age leaves running readers, and writers that have not swapped yet, their files.
        """
        root = self._path(f"{self.root}/{table.name}")
        system = self._file_system(str(root))
        if not system.exists(root):
            return 0
        sharing = [table, *_made_of_its_files(table)]
        used = {location for each in sharing for location in self.locations(each).values()}
        removed = 0
        for status in system.listStatus(root):
            path = status.getPath()
            in_use = any(location.startswith(_plain(path.toString()) + "/") for location in used)
            too_young = time.time() - status.getModificationTime() / 1000 < older_than_s
            if path.getName().startswith("run-") and not in_use and not too_young:
                system.delete(path, True)
                removed += 1
        return removed

    def locations(self, table: Table) -> dict[str, str]:
        """Folder of each partition, by its value."""
        self.ensure(table)
        return {values[table.partition]: _plain(at) for values, at in catalog.locations(self.spark, table.name)}

    def _delete(self, folder: str) -> None:
        self._file_system(folder).delete(self._path(folder), True)

    def _path(self, location: str) -> Any:
        return self.spark._jvm.org.apache.hadoop.fs.Path(location)  # type: ignore[union-attr]

    def _file_system(self, location: str) -> Any:
        return self._path(location).getFileSystem(self.spark._jsparkSession.sessionState().newHadoopConf())


def _made_of_its_files(table: Table) -> list[Table]:
    return [other for other in ALL.values() if other.files_of == table.name]


def _plain(location: str) -> str:
    """`file:///a` and `file:/a` as one text."""
    return location.replace(":///", ":/")


def query(spark: SparkSession, statement: str, known: Sequence[str]) -> DataFrame:
    """Run SQL. Raises UserError in one line for a mistake in it, or for a known table that nothing wrote yet."""
    try:
        return spark.sql(statement)
    except AnalysisException as error:
        text = str(error)
        missing = [name for name in known if f"`{name}`" in text]
        if "TABLE_OR_VIEW_NOT_FOUND" in text and missing:
            raise UserError(f"{missing[0]} is empty: no stage has written it yet") from None
        raise UserError(f"SQL: {next(line for line in text.splitlines() if line.strip())}") from None
