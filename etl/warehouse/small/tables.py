"""Small tables without Spark: SQL over the partitions that a stage has written by DuckDB, new partitions by pyarrow.

A Spark job plans for longer than a report of some rows takes. The SQL is in words that both have: a table has one text.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from conf import path_of_url
from etl.table import Table
from etl.warehouse.small.checks import STAGED, create_view, database, small_files

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)

_TYPES = {"string": "varchar", "int": "integer", "bigint": "bigint", "double": "double"}
_MAX_ROWS = 2_000_000  # to split: the reader of a log has fewer lines; snapshots of visitors may have more
_FILE = "part-00000.parquet"
_PARAMETER = re.compile(r"(?<!:):(\w+)")


def answer(
    text: str, parameters: Mapping[str, str], sources: Mapping[Table, Sequence[str]], columns: Mapping[str, str]
) -> "pa.Table | None":
    """The result of a SELECT, as Spark would have it.

    Args:
        text: in words that Spark and DuckDB have in common, with parameters as `:first`; divisions by 0 through nullif.
        parameters: name -> value.
        sources: the tables that it reads, with the URLs of their folders: of partitions, or staged ones.
        columns: name -> Hive type of the result's columns: of text and numbers.

    Returns:
        The rows; None where the sources' files are large, many or not on this machine, or it fails: Spark says why.
    """
    import duckdb

    files = {table: small_files(folders) for table, folders in sources.items()}
    if None in files.values():
        return None
    names = ", ".join(f'"{name}"::{_TYPES[type_name]} as "{name}"' for name, type_name in columns.items())
    with_marks = _PARAMETER.sub(r"$\1", text)  # as DuckDB writes parameters
    try:
        with database().cursor() as connection:
            for table, paths in files.items():
                create_view(connection, table.name, table, paths or [])
            return connection.sql(f"select {names} from ({with_marks})", params=dict(parameters)).to_arrow_table()
    except duckdb.Error as error:  # out of memory, files of an earlier release without a column
        log.debug("not by DuckDB: %s", error)
        return None


def write_partitions(table: Table, rows: "pa.Table", folder: str) -> None:
    """Write rows as one file for each partition, `PARTITION=VALUE/part-00000.parquet` in a folder.

    Args:
        table: whose columns and partition column the rows have.
        rows: the rows.
        folder: URL of a folder on this machine.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    root = path_of_url(folder)
    assert root is not None
    root.mkdir(parents=True, exist_ok=True)
    ordered = rows.take(pc.sort_indices(rows[table.partition])) if len(rows) else rows
    values = ordered[table.partition].cast(pa.string())
    data = ordered.select(table.column_names).combine_chunks()
    start = 0
    # Runs of equal values, in order.
    for run in pc.value_counts(values).to_pylist():
        path = root / f"{table.partition}={run['values']}"
        path.mkdir()
        # The schema of Arrow in each file would be longer than its rows.
        pq.write_table(data.slice(start, run["counts"]), path / _FILE, store_schema=False)
        start += run["counts"]


def split(table: Table, folder: str) -> bool:
    """Write the partitions of a run's folder from its staged files; False where they are too large for that."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = small_files([f"{folder}/{STAGED}"])
    if files is None or sum(pq.read_metadata(file).num_rows for file in files) > _MAX_ROWS:
        return False
    write_partitions(table, pa.concat_tables([pq.read_table(file, partitioning=None) for file in files]), folder)
    return True
