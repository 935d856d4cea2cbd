"""Tables of relational databases into the warehouse, over JDBC: `millrace etl import`.

The business database's users and items become dim_user and dim_item; `relational.imports` names any others.
"""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import date

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from conf import Config, UserError
from etl.relational.jdbc import Database, bounds, connection, database, explained, literal, read, release
from etl.relational.settings import ImportSettings, RelationalSettings
from etl.relational.watermark import Watermarks
from etl.stage import stage_run, total_counts
from etl.table import Column, Table
from etl.tables import dim
from etl.warehouse.store import Warehouse

log = logging.getLogger(__name__)

# Sources whose target has a description of its own.
BUILT_IN: dict[str, tuple[ImportSettings, Table]] = {
    "users": (ImportSettings(table="users"), dim.user),
    "items": (ImportSettings(table="items"), dim.item),
}


def names(config: Config) -> list[str]:
    """All imports."""
    return [*BUILT_IN, *config.get(RelationalSettings).imports]


def run(spark: SparkSession, config: Config, day: date, chosen: Sequence[str]) -> dict[str, int]:
    """Import the tables `chosen` (all when empty) as the partitions of `day`."""
    warehouse = Warehouse(spark, config)
    with stage_run(warehouse, "import", [day]) as counts, ExitStack() as opened:
        for name in {_entry(config, name)[0].database for name in chosen or names(config)}:
            opened.callback(release, spark, database(config, name))
        for name in chosen or names(config):
            rows = _import(warehouse, config, name, day)
            log.info("%s: %d rows", name, rows)
            counts[day].rows_in += rows
            counts[day].rows_out += rows
    return total_counts(counts)


def _entry(config: Config, name: str) -> tuple[ImportSettings, Table | None]:
    return BUILT_IN.get(name) or (config.get(RelationalSettings).imports[name], None)


def _import(warehouse: Warehouse, config: Config, name: str, day: date) -> int:
    entry, table = _entry(config, name)
    source = database(config, entry.database)
    with connection(warehouse.spark, source) as opened:
        comments = {name: field.comment for name, field in opened.columns(entry.table).items()}
    with explained(f"import {name} from {source.url}"):
        if table is None:
            table = described(name, entry, comments, _rows(warehouse.spark, source, entry, "1 = 0"))
        if entry.mode == "snapshot":
            rows = _rows(warehouse.spark, source, entry, None)
            return warehouse.write(table, table.with_partition(rows, day), [day])[day]
        return _import_changes(warehouse, source, name, entry, table, day)


def _import_changes(
    warehouse: Warehouse, source: Database, name: str, entry: ImportSettings, table: Table, day: date
) -> int:
    """Rows after the watermark of the days before, up to the greatest value there is now, which is noted last."""
    column = str(entry.check_column)
    marks = Watermarks(warehouse, name)
    marks.catch_up(table, column.lower(), day)
    low = marks.before(day)
    is_past, high = marks.limit(day)
    if not is_past:
        high = bounds(warehouse.spark, source, _query(entry, None), column)[1]
    _warn_of_missing(warehouse.spark, source, name, entry)
    after = [f"{column} > {literal(low)}"] if low is not None else []
    condition = " and ".join([*after, f"{column} <= {literal(high)}"]) if high is not None else "1 = 0"
    changed = _rows(warehouse.spark, source, entry, condition)
    if entry.mode == "merge":
        changed = _merged(warehouse, table, entry, changed, day)
    written = warehouse.write(table, table.with_partition(changed, day), [day])[day]
    marks.advance(day, column.lower(), high if high is not None else low)
    return written


def _merged(warehouse: Warehouse, table: Table, entry: ImportSettings, changed: DataFrame, day: date) -> DataFrame:
    """The newest state of every key: of the last partition before `day` and of the rows changed since."""
    known = [value for value in warehouse.partitions(table) if value < table.partition_value(day)]
    before = warehouse.read(table).where(F.col(table.partition) == (known[-1] if known else ""))
    both = changed.withColumn("age", F.lit(0)).unionByName(
        before.select(*table.column_names).withColumn("age", F.lit(1))
    )
    newest = Window.partitionBy(*[name.lower() for name in entry.key]).orderBy(
        F.desc(str(entry.check_column).lower()), "age"
    )
    return both.withColumn("nth", F.row_number().over(newest)).where("nth = 1").drop("nth", "age")


def _warn_of_missing(spark: SparkSession, source: Database, name: str, entry: ImportSettings) -> None:
    query = f"select count(*) as n from ({_query(entry, f'{entry.check_column} is null')}) millrace_missing"
    missing = read(spark, source, query).collect()[0]["n"]
    if missing:
        log.warning("%s: %d rows have no %s and are not imported", name, missing, entry.check_column)


def described(name: str, entry: ImportSettings, comments: dict[str, str], rows: DataFrame) -> Table:
    """The warehouse's table for a source: its columns, types and comments."""
    columns = tuple(
        Column(field.name, field.dataType.simpleString(), comments.get(field.name) or f"{field.name} of {entry.table}")
        for field in rows.schema.fields
    )
    if any(column.name == "dt" for column in columns):
        raise UserError(f"import {name}: column dt is the partition's name: list the other ones in `columns`")
    what = {"snapshot": "all of them each day", "append": "those added on the day", "merge": "as of the day"}
    key = tuple(part.lower() for part in entry.key)
    return Table(f"ods_{name}", f"One row per row of {entry.table}: {what[entry.mode]}", columns, key=key)


def _rows(spark: SparkSession, source: Database, entry: ImportSettings, condition: str | None) -> DataFrame:
    split = (entry.split_by, entry.connections) if entry.split_by and condition != "1 = 0" else None
    return read(spark, source, _query(entry, condition), split=split, types=entry.types)


def _query(entry: ImportSettings, condition: str | None) -> str:
    given = [f"({part})" for part in (entry.where, condition) if part]
    where = f" where {' and '.join(given)}" if given else ""
    return f"select {', '.join(entry.columns) or '*'} from {entry.table}{where}"
