"""Rows of `ops_run`: by pyarrow, because a Spark job for each row costs more than it writes."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime

from pyspark.sql import SparkSession

from conf import Config, Paths, path_of_url
from conf.code import code_version
from etl.metastore import catalog
from etl.metastore.connection import advisory_lock
from etl.tables import ops

_INTERRUPTED = "ended while its tables changed; a later command completed the change: run it again for its counts"


@dataclass(frozen=True)
class StageStart:
    """What is known of a stage's run before its end, as text that JSON can hold."""

    run_id: str
    stage: str
    days: tuple[str, ...]
    started_at: str


def add_rows(spark: SparkSession, config: Config, rows: Mapping[date, Mapping[str, object]]) -> None:
    """Add one row to the partition of each day; values by column name. The table must exist."""
    locations = {ops.run.partition_value(day): _append(config, day, row) for day, row in rows.items()}
    # The file is in the folder already; the partition makes it visible. Two stages may add the same day at once.
    with advisory_lock(spark, ops.run.name):
        existing = catalog.locations_of(spark, ops.run.name, ops.run.partition, list(locations))
        new = {value: location for value, location in locations.items() if value not in existing}
        catalog.add_partitions(spark, ops.run.name, ops.run.partition, new)
    if existing:
        catalog.forget_files(spark, ops.run.name)  # of partitions that have one more now


def add_interrupted(spark: SparkSession, config: Config, start: StageStart) -> None:
    """Record a run that was killed when its change of tables was decided, which has been completed since.

    Its status is `interrupted`, its counts are 0: only the run knew them. Once more, it is the same row.
    """
    if catalog.column_names(spark, ops.run.name) is None:
        spark.sql(ops.run.create_statement(f"{config.get(Paths).warehouse}/{ops.run.name}"))
    counts = {column.name: 0 for column in ops.run.columns if column.name.startswith("rows_")}
    row = {
        "run_id": start.run_id,
        "stage": start.stage,
        **counts,
        "started_at": datetime.fromisoformat(start.started_at),
        "ended_at": datetime.now(UTC),
        "status": "interrupted",
        "error": _INTERRUPTED,
        "code_version": code_version(),
    }
    add_rows(spark, config, {date.fromisoformat(day): row for day in start.days})


def _append(config: Config, day: date, row: Mapping[str, object]) -> str:
    """Write one file per run, put in place by one rename, so that appends of several processes never meet.

    Returns the partition's folder.
    """
    # Here, for every session imports this module, and few add a row.
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyarrow import fs

    # Microseconds, as Spark writes timestamps (spark.sql.parquet.outputTimestampType); its readers refuse nanoseconds.
    types = {"string": pa.string(), "bigint": pa.int64(), "timestamp": pa.timestamp("us", tz="UTC")}
    schema = pa.schema([(column.name, types[column.type]) for column in ops.run.columns])
    root = config.get(Paths).warehouse
    location = f"{root}/{ops.run.name}/{ops.run.partition}={ops.run.partition_value(day)}"
    # A local path is taken as it is: pyarrow reads a URI by the standard, with # and % as signs of its own.
    local_path = path_of_url(location)
    file_system, folder = (
        fs.FileSystem.from_uri(location) if local_path is None else (fs.LocalFileSystem(), str(local_path))
    )
    file_system.create_dir(folder, recursive=True)
    name = f"{row['run_id']}.parquet"
    # A leading dot hides a file from Spark until it is whole.
    pq.write_table(pa.Table.from_pylist([dict(row)], schema=schema), f"{folder}/.{name}", filesystem=file_system)
    file_system.move(f"{folder}/.{name}", f"{folder}/{name}")
    return location
