"""Tables of relational databases into the warehouse, over JDBC: `millrace etl import`.

The business database's users and items become dim_user and dim_item; `relational.imports` names any others.
"""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import date

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from conf import Config, Paths, UserError
from etl.relational.connection import connect, shut_down
from etl.relational.database import Database, explained, find_database
from etl.relational.reading import column_bounds, read_query, sql_literal
from etl.relational.settings import BusinessSettings, ImportSettings, RelationalSettings
from etl.relational.watermark import Watermarks
from etl.sources.values import text_map
from etl.stage import stage_run, total_counts
from etl.table import Column, Table
from etl.tables import ALL, dim
from etl.warehouse.store import Warehouse

log = logging.getLogger(__name__)

NO_ROWS = "1 = 0"

# Sources whose target is a table of `etl/tables/`.
BUILT_IN: dict[str, tuple[ImportSettings, Table]] = {
    "users": (ImportSettings(table="users"), dim.user),
    "items": (ImportSettings(table="items"), dim.item),
}


def find_imports(config: Config) -> dict[str, tuple[ImportSettings, Table | None]]:
    """All imports by name: the built-in ones, and those of `relational.imports`, whose tables follow their sources.

    `relational.imports.users` and `.items` change where the built-in ones read from, not the table they write.

    Raises:
        UserError: an import would write a table of Millrace's own.
    """
    configured = config.get(RelationalSettings).imports
    if own := [f"ods_{name}" for name in configured if f"ods_{name}" in ALL]:
        raise UserError(f"relational.imports: {own[0]} is a table of Millrace's own; give the import another name")
    tables = {name: table for name, (_, table) in BUILT_IN.items()}
    return BUILT_IN | {name: (entry, tables.get(name)) for name, entry in configured.items()}


def has_databases(config: Config) -> bool:
    """Whether there is a business database, set or simulated, or another import."""
    is_business = config.get(BusinessSettings).url is not None or config.get(Paths).business.is_dir()
    return is_business or bool(config.get(RelationalSettings).imports)


def run(spark: SparkSession, config: Config, day: date, names: Sequence[str]) -> dict[str, int]:
    """Import tables as the partitions of a day.

    Args:
        spark: the session.
        config: `relational.*` and `business.*`.
        day: the partition to replace.
        names: imports to run, of `find_imports`; all when empty.

    Returns:
        Row counts, summed over the tables.

    Raises:
        UserError: if a database can't be reached, a table or column is missing, or a value doesn't fit its type.
    """
    warehouse = Warehouse(spark, config)
    imports = find_imports(config)
    names = names or list(imports)
    with stage_run(warehouse, "import", [day]) as counts, ExitStack() as cleanup:
        # Also after an error: a Derby that this JVM has open would be closed to every other process.
        for database_name in {imports[name][0].database for name in names}:
            cleanup.callback(shut_down, spark, find_database(config, database_name))
        for name in names:
            entry, table = imports[name]
            rows = _import_table(warehouse, find_database(config, entry.database), name, entry, table, day)
            log.info("%s: %d rows", name, rows)
            counts[day].rows_in += rows
            counts[day].rows_out += rows
    return total_counts(counts)


def _import_table(
    warehouse: Warehouse, database: Database, name: str, entry: ImportSettings, table: Table | None, day: date
) -> int:
    with connect(warehouse.spark, database) as connection:
        comments = {column: field.comment for column, field in connection.columns(entry.table).items()}
    with explained(f"import {name} from {database.url}"):
        if table is None:
            # A query without rows: Spark's names and types of the columns.
            table = describe_table(name, entry, comments, _read_rows(warehouse.spark, database, entry, NO_ROWS))
        if entry.mode == "snapshot":
            rows = with_attributes(_read_rows(warehouse.spark, database, entry, None), table)
            return warehouse.write(table, table.with_partition(rows, day), [day])[day]
        return _import_changes(warehouse, database, name, entry, table, day)


def with_attributes(rows: DataFrame, table: Table) -> DataFrame:
    """Add `attributes`, where the table has them and the rows don't: the columns that it has no place for, as text."""
    others = [name for name in rows.columns if name not in table.column_names]
    if not others or "attributes" not in table.column_names or "attributes" in rows.columns:
        return rows
    return rows.withColumn("attributes", text_map({name: F.col(f"`{name}`").cast("string") for name in others}))


def _import_changes(
    warehouse: Warehouse, database: Database, name: str, entry: ImportSettings, table: Table, day: date
) -> int:
    """Import the rows after the watermark of the days before, up to the greatest value that there is now.

    The upper bound is queried first, so that rows which come in the meantime are the next import's. The watermark is
    set last: after a kill between partition and watermark, `catch_up` sets it.
    """
    column = str(entry.check_column)
    watermarks = Watermarks(warehouse, name)
    watermarks.catch_up(table, column.lower(), day)
    low = watermarks.before(day)
    is_past, high = watermarks.limit(day)
    # A past day again: its old upper bound, so that its rows are the same and the next day's begin after it.
    if not is_past:
        high = column_bounds(warehouse.spark, database, _select(entry, None), column)[1]
    _warn_of_nulls(warehouse.spark, database, name, entry)
    # Without an upper bound the table is empty.
    above = [f"{column} > {sql_literal(low)}"] if low is not None else []
    condition = " and ".join([*above, f"{column} <= {sql_literal(high)}"]) if high is not None else NO_ROWS
    rows = with_attributes(_read_rows(warehouse.spark, database, entry, condition), table)
    if entry.mode == "merge":
        rows = rows.transform(_merge_into_snapshot, warehouse, table, entry, day)
    written = warehouse.write(table, table.with_partition(rows, day), [day])[day]
    watermarks.advance(day, column.lower(), high if high is not None else low)
    return written


def _merge_into_snapshot(
    changed: DataFrame, warehouse: Warehouse, table: Table, entry: ImportSettings, day: date
) -> DataFrame:
    """The newest state of every key, from the last partition before `day` and the rows changed since."""
    earlier = [value for value in warehouse.partitions(table) if value < table.partition_value(day)]
    snapshot = warehouse.read(table).where(F.col(table.partition) == (earlier[-1] if earlier else ""))
    # A changed row goes before an old one with the same value of the check column.
    candidates = changed.withColumn("age", F.lit(0)).unionByName(
        snapshot.select(*table.column_names).withColumn("age", F.lit(1)), allowMissingColumns=True
    )
    newest_first = Window.partitionBy(*[name.lower() for name in entry.key]).orderBy(
        F.desc(str(entry.check_column).lower()), "age"
    )
    return candidates.withColumn("n", F.row_number().over(newest_first)).where("n = 1").drop("n", "age")


def _warn_of_nulls(spark: SparkSession, database: Database, name: str, entry: ImportSettings) -> None:
    # No watermark would ever pass them.
    is_null = f"{entry.check_column} is null"
    count = f"select count(*) as n from ({_select(entry, is_null)}) millrace_missing"
    num_nulls = read_query(spark, database, count).collect()[0]["n"]
    if num_nulls:
        log.warning("%s: %d rows have no %s and are not imported", name, num_nulls, entry.check_column)


def describe_table(name: str, entry: ImportSettings, comments: dict[str, str], rows: DataFrame) -> Table:
    """The warehouse's table `ods_NAME` for an import.

    Args:
        name: the import's name.
        entry: its settings.
        comments: the source's comments, by column in lower case.
        rows: a DataFrame with the source's columns and types; it is not evaluated.

    Raises:
        UserError: if a column is called dt, as the partition is.
    """
    columns = tuple(
        Column(field.name, field.dataType.simpleString(), comments.get(field.name) or f"{field.name} of {entry.table}")
        for field in rows.schema.fields
    )
    if any(column.name == "dt" for column in columns):
        raise UserError(f"import {name}: column dt is the partition's name: list the other ones in `columns`")
    extent = {"snapshot": "all of them each day", "append": "those added on the day", "merge": "as of the day"}
    key = tuple(column.lower() for column in entry.key)
    return Table(f"ods_{name}", f"One row per row of {entry.table}: {extent[entry.mode]}", columns, key=key)


def _read_rows(spark: SparkSession, database: Database, entry: ImportSettings, condition: str | None) -> DataFrame:
    # No bounds to query where no rows are wanted.
    split = (entry.split_by, entry.connections) if entry.split_by and condition != NO_ROWS else None
    return read_query(spark, database, _select(entry, condition), split=split, types=entry.types)


def _select(entry: ImportSettings, condition: str | None) -> str:
    conditions = [f"({part})" for part in (entry.where, condition) if part]
    where = f" where {' and '.join(conditions)}" if conditions else ""
    return f"select {', '.join(entry.columns) or '*'} from {entry.table}{where}"
