"""Result tables of a day to a relational database or to text files: `millrace etl export NAME --date DAY`.

Rows go to a staging table first, over several connections; one transaction then moves them into the target and notes
the run in `millrace_export`, so that a run is there whole and once, or not at all.
"""

import hashlib
import logging
from collections.abc import Sequence
from datetime import date
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from conf import Config, UserError
from conf.cli import one_of
from etl.relational import statements as exports
from etl.relational.jdbc import Connection, Database, Field, cause_of, connection, database, explained
from etl.relational.settings import ExportSettings, RelationalSettings
from etl.session import SPARK_ERRORS
from etl.stage import stage_run, total_counts
from etl.table import Table
from etl.tables import ALL
from etl.warehouse.store import Warehouse

log = logging.getLogger(__name__)

# A field as it is: quoted where it must be, empty for null, "" for a text without letters.
_CSV = {
    "sep": ",",
    "escape": '"',
    "nullValue": "",
    "emptyValue": '""',
    "ignoreLeadingWhiteSpace": "false",
    "ignoreTrailingWhiteSpace": "false",
}


def chosen(config: Config, names: Sequence[str]) -> list[str]:
    """The exports named, or all. Raises UsageError for an unknown one, or one of an unknown table."""
    known = config.get(RelationalSettings).exports
    found = [one_of("export", name, tuple(known)) for name in names] or list(known)
    for name in found:
        one_of("table", known[name].table, tuple(ALL))
    if not found:
        log.info("nothing to export: relational.exports is empty")
    return found


def run(
    spark: SparkSession, config: Config, names: Sequence[str], day: date, run_id: str | None = None
) -> dict[str, int]:
    """Export the day's partitions. A `run_id` that the target already holds adds nothing.

    By default a day is appended once, and upserted once for each version of its partition.
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
        return _to_text(warehouse, entry, table, rows, day)
    version = warehouse.locations(table)[table.partition_value(day)].rsplit("/", 2)[-2]
    wanted = run_id or f"{name}:{day}" + (f":{version}" if entry.mode == "upsert" else "")
    return _to_table(warehouse.spark, database(config, entry.database), entry, table, rows, wanted)


def _to_table(
    spark: SparkSession, target: Database, entry: ExportSettings, table: Table, rows: DataFrame, run_id: str
) -> int:
    to = str(entry.to)
    with connection(spark, target) as opened:
        there = opened.columns(to)
        names = _columns(entry, table, there)
        columns, key = ([there[name.lower()].quoted for name in some] for some in (names, entry.key))
        if _is_done(opened, target, run_id):
            log.info("%s already holds run %s; give another --run-id to export it again", to, run_id)
            return 0
        schema = f"{to.rsplit('.', 1)[0]}." if "." in to else ""
        staging = f"{schema}millrace_{hashlib.sha256(run_id.encode()).hexdigest()[:16]}"
        _drop(opened, staging)  # of a run that was killed
        opened.execute(exports.create_staging(target.kind, staging, to, columns))
        opened.commit()
        try:
            written = _fill(target, staging, rows.select(*names))
            staged = opened.rows(f"select count(*) from {staging}")[0][0]
            if staged != written:
                raise UserError(f"{staging} has {staged} rows of {written}: a task was tried again; export once more")
            opened.execute(f"insert into {exports.LEDGER} (run_id, num_rows) values (?, ?)", [run_id, written])
            if entry.mode == "upsert":
                opened.execute(exports.upsert(target.kind, staging, to, columns, key))
            else:
                opened.execute(exports.append(staging, to, columns))
            opened.commit()
        except SPARK_ERRORS as error:
            raise UserError(f"{to} was left as it was: {cause_of(error)}") from None
        finally:
            _clean_up(opened, staging)
    return written


def _columns(entry: ExportSettings, table: Table, there: dict[str, Field]) -> list[str]:
    """What to export. Raises UserError for a column that either side lacks."""
    ours = [*table.column_names, table.partition]
    wanted = entry.columns or [*table.column_names, *([table.partition] if table.partition in there else [])]
    if missing := [name for name in [*wanted, *entry.key] if name.lower() not in there]:
        raise UserError(f"{entry.to} has no column {', '.join(missing)}; it has {', '.join(there)}")
    if missing := [name for name in wanted if name not in ours]:
        raise UserError(f"{table.name} has no column {', '.join(missing)}; it has {', '.join(ours)}")
    return wanted


def _is_done(opened: Connection, target: Database, run_id: str) -> bool:
    try:
        opened.columns(exports.LEDGER)
    except UserError:
        opened.execute(exports.create_ledger(target.kind))
        opened.commit()
    return bool(opened.rows(f"select 1 from {exports.LEDGER} where run_id = ?", [run_id]))


def _fill(target: Database, staging: str, rows: DataFrame) -> int:
    writer: Any = rows.write.format("jdbc").mode("append").options(**target.options)
    writer.option("dbtable", staging).option("batchsize", "10000").save()
    return rows.count()


def _drop(opened: Connection, staging: str) -> None:
    try:
        opened.columns(staging)
    except UserError:
        return
    opened.execute(f"drop table {staging}")


def _clean_up(opened: Connection, staging: str) -> None:
    """Undo what is open and remove the staging table; the next try does it where the connection is gone."""
    try:
        opened.rollback()
        _drop(opened, staging)
        opened.commit()
    except SPARK_ERRORS as error:
        log.warning("%s is left in the database: %s", staging, cause_of(error))


def _to_text(warehouse: Warehouse, entry: ExportSettings, table: Table, rows: DataFrame, day: date) -> int:
    """Text files in `PATH/dt=…`, put in place as one folder."""
    names = entry.columns or table.column_names
    if missing := [name for name in names if name not in [*table.column_names, table.partition]]:
        raise UserError(f"{table.name} has no column {', '.join(missing)}")
    folder = f"{str(entry.path).rstrip('/')}/{table.partition}={table.partition_value(day)}"
    with explained(f"can't write {folder}"):
        if entry.delimiter == ",":
            writer = rows.select(*names).write.options(**_CSV)
            warehouse.publish_files(folder, writer.csv)
        else:
            lines = rows.select(F.concat_ws(entry.delimiter, *[_escaped(name, entry.delimiter) for name in names]))
            warehouse.publish_files(folder, lambda where: lines.write.text(where))
    return rows.count()


def _escaped(name: str, delimiter: str) -> Any:
    """As Hive reads it with `ESCAPED BY '\\\\'`: \\N for null, a backslash before what would part a row."""
    text = F.replace(F.col(name).cast("string"), F.lit("\\"), F.lit("\\\\"))
    for plain, escaped in ((delimiter, f"\\{delimiter}"), ("\n", "\\n"), ("\r", "\\r")):
        text = F.replace(text, F.lit(plain), F.lit(escaped))
    return F.coalesce(text, F.lit("\\N"))
