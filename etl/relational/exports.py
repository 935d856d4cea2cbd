"""Result tables of a day to a relational database or to text files: `millrace etl export NAME --date DAY`.

Rows go to a staging table first, over several connections; one transaction then moves them into the target and adds
the run to `millrace_export`, so that a run is there whole and once, or not at all.
"""

import hashlib
import logging
from collections.abc import Sequence
from datetime import date
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from conf import Config, UserError
from conf.console.cli import one_of
from etl.relational import statements
from etl.relational.connection import CatalogColumn, Connection, connect
from etl.relational.database import Database, explained, find_database, root_message
from etl.relational.settings import ExportSettings, RelationalSettings
from etl.session import SPARK_ERRORS
from etl.stage import stage_run, total_counts
from etl.table import Table
from etl.tables import ALL
from etl.warehouse.store import Warehouse

log = logging.getLogger(__name__)

BATCH_SIZE = 10_000  # rows of one insert
# CSV by RFC 4180: quoted where it must be, empty for null, "" for an empty text; blanks stay.
_CSV_OPTIONS = {
    "sep": ",",
    "escape": '"',
    "nullValue": "",
    "emptyValue": '""',
    "ignoreLeadingWhiteSpace": "false",
    "ignoreTrailingWhiteSpace": "false",
}


def select_exports(config: Config, names: Sequence[str]) -> list[str]:
    """The exports of these names, or all of `relational.exports` when there are none.

    Checked before Spark starts, and with a note in the log when there is nothing to export.

    Raises:
        UsageError: for an unknown export, or one of an unknown table.
    """
    entries = config.get(RelationalSettings).exports
    selected = [one_of("export", name, entries) for name in names] or list(entries)
    for name in selected:
        one_of("table", entries[name].table, ALL)
    if not selected:
        log.info("nothing to export: relational.exports is empty")
    return selected


def run(
    spark: SparkSession, config: Config, names: Sequence[str], day: date, run_id: str | None = None
) -> dict[str, int]:
    """Export a day's partitions.

    Args:
        spark: the session.
        config: `relational.*`.
        names: of `relational.exports`.
        day: the partition to export.
        run_id: an id of the caller's own; by default an append has one per day, an upsert one per version of the day's
            partition. A run whose id the target's ledger has adds nothing.

    Returns:
        Row counts, summed over the exports.

    Raises:
        UserError: if the day was not written, a column is missing, or the database refuses the rows.
    """
    warehouse = Warehouse(spark, config)
    with stage_run(warehouse, "export", [day]) as counts:
        for name in names:
            written = _export(warehouse, config, name, day, run_id)
            counts[day].rows_in += written
            counts[day].rows_out += written
    return total_counts(counts)


def _export(warehouse: Warehouse, config: Config, name: str, day: date, run_id: str | None) -> int:
    entry = config.get(RelationalSettings).exports[name]
    table = ALL[entry.table]
    if not warehouse.has_partition(table, day):
        raise UserError(f"{table.name} has no partition of {day}: no stage has written it")
    rows = warehouse.read(table, [day])
    if entry.path is not None:
        return _export_files(warehouse, entry, table, rows, day)
    if not run_id:
        # The partition's folder is named after the run that wrote it.
        version = warehouse.locations(table)[table.partition_value(day)].rsplit("/", 2)[-2]
        run_id = f"{name}:{day}" + (f":{version}" if entry.mode == "upsert" else "")
    return _export_table(warehouse.spark, find_database(config, entry.database), entry, table, rows, run_id)


# --- to a table ---


def _export_table(
    spark: SparkSession, database: Database, entry: ExportSettings, table: Table, rows: DataFrame, run_id: str
) -> int:
    target = str(entry.to)
    with connect(spark, database) as connection:
        # Quoted as the catalog has them: Derby's names are upper case, PostgreSQL's lower case.
        target_columns = connection.columns(target)
        names = _select_columns(entry, table, target_columns)
        columns, key = ([target_columns[name.lower()].quoted for name in selected] for selected in (names, entry.key))
        if _is_exported(connection, database, run_id):
            log.info("%s already holds run %s; give another --run-id to export it again", target, run_id)
            return 0
        schema = f"{target.rsplit('.', 1)[0]}." if "." in target else ""
        # A hash, because databases limit the length of names; PostgreSQL's limit is 63.
        # One name for all attempts of a run, so that the next one removes what a killed one left.
        staging = f"{schema}millrace_{hashlib.sha256(run_id.encode()).hexdigest()[:16]}"
        _drop_if_exists(connection, staging)
        connection.execute(statements.create_staging(database.kind, staging, target, columns))
        connection.commit()  # Spark's connections have to see it
        try:
            written = _fill_staging(database, staging, rows.select(*names))
            _check_staging(connection, staging, written)
            # From here one transaction: the ledger's row and the target's rows are committed together.
            connection.execute(f"insert into {statements.LEDGER} (run_id, num_rows) values (?, ?)", [run_id, written])
            if entry.mode == "upsert":
                connection.execute(statements.upsert(database.kind, staging, target, columns, key))
            else:
                connection.execute(statements.append(staging, target, columns))
            connection.commit()
        except SPARK_ERRORS as error:
            raise UserError(f"{target} was left as it was: {root_message(error)}") from None
        finally:
            _remove_staging(connection, staging)
    return written


def _select_columns(entry: ExportSettings, table: Table, target_columns: dict[str, CatalogColumn]) -> list[str]:
    """What to export. Raises UserError for a column that either side lacks."""
    own_columns = [*table.column_names, table.partition]
    partition = [table.partition] if table.partition in target_columns else []
    selected = entry.columns or [*table.column_names, *partition]
    if missing := [name for name in [*selected, *entry.key] if name.lower() not in target_columns]:
        raise UserError(f"{entry.to} has no column {', '.join(missing)}; it has {', '.join(target_columns)}")
    if missing := [name for name in selected if name not in own_columns]:
        raise UserError(f"{table.name} has no column {', '.join(missing)}; it has {', '.join(own_columns)}")
    return selected


def _is_exported(connection: Connection, database: Database, run_id: str) -> bool:
    if not connection.has_table(statements.LEDGER):
        connection.execute(statements.create_ledger(database.kind))
        connection.commit()
    return bool(connection.query(f"select 1 from {statements.LEDGER} where run_id = ?", [run_id]))


def _drop_if_exists(connection: Connection, staging: str) -> None:
    # `if exists` is not every dialect's.
    if connection.has_table(staging):
        connection.execute(f"drop table {staging}")


def _fill_staging(database: Database, staging: str, rows: DataFrame) -> int:
    writer: Any = rows.write.format("jdbc").mode("append").options(**database.options)
    writer.option("dbtable", staging).option("batchsize", str(BATCH_SIZE)).save()
    return rows.count()  # Spark's writer returns none: a pass over the partition's footers


def _check_staging(connection: Connection, staging: str, expected: int) -> None:
    """Spark repeats a task that failed after it had written: then rows are there twice."""
    staged = connection.query(f"select count(*) from {staging}")[0][0]
    if staged != expected:
        raise UserError(f"{staging} has {staged} rows of {expected}: a task was tried again; export once more")


def _remove_staging(connection: Connection, staging: str) -> None:
    """Roll back and drop the staging table; where the connection is gone, the next attempt drops it."""
    try:
        connection.rollback()
        _drop_if_exists(connection, staging)
        connection.commit()
    except SPARK_ERRORS as error:
        log.warning("%s is left in the database: %s", staging, root_message(error))


# --- to text files ---


def _export_files(warehouse: Warehouse, entry: ExportSettings, table: Table, rows: DataFrame, day: date) -> int:
    """Write text files into `PATH/dt=…`, which is replaced as one folder."""
    names = entry.columns or table.column_names
    if missing := [name for name in names if name not in [*table.column_names, table.partition]]:
        raise UserError(f"{table.name} has no column {', '.join(missing)}")
    folder = f"{str(entry.path).rstrip('/')}/{table.partition}={table.partition_value(day)}"
    with explained(f"can't write {folder}"):
        if entry.delimiter == ",":
            warehouse.files.replace_folder(folder, rows.select(*names).write.options(**_CSV_OPTIONS).csv)
        else:
            cells = [_hive_escaped(name, entry.delimiter) for name in names]
            warehouse.files.replace_folder(folder, rows.select(F.concat_ws(entry.delimiter, *cells)).write.text)
    return rows.count()


def _hive_escaped(name: str, delimiter: str) -> Column:
    """A cell as Hive reads it with `ESCAPED BY '\\\\'`: \\N for null, a backslash before what would split a row."""
    text = F.replace(F.col(name).cast("string"), F.lit("\\"), F.lit("\\\\"))
    for character, escaped in ((delimiter, f"\\{delimiter}"), ("\n", "\\n"), ("\r", "\\r")):
        text = F.replace(text, F.lit(character), F.lit(escaped))
    return F.coalesce(text, F.lit("\\N"))
