"""Tables and their partitions from an embedded metastore, without Spark: Derby's own client reads them in a second.

Spark and Hive's client take ten: for a query of some Parquet files that is all of its time.
"""

import logging
import os
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from conf import Config, Paths
from etl import compat
from etl.metastore.lock import MetastoreLock
from etl.metastore.settings import MetastoreSettings
from etl.tables import SCHEMA_PROPERTY, SCHEMA_VERSION

log = logging.getLogger(__name__)

_TIMEOUT_S = 60.0
_END = "."  # closes each printed line: values are padded with blanks, and may end with one

# Of the tables alone: a view has no columns of Parquet files. One text for each row, its fields between tabs.
_OF_TABLES = (
    "from TBLS t join DBS d on d.DB_ID = t.DB_ID and d.NAME = 'default' "
    "and t.TBL_TYPE in ('EXTERNAL_TABLE', 'MANAGED_TABLE')"
)
_VERSION = (
    f"select 'version\t' || cast(p.PARAM_VALUE as varchar(4000)) || '\t.' from DATABASE_PARAMS p "
    f"join DBS d on d.DB_ID = p.DB_ID where d.NAME = 'default' and p.PARAM_KEY = '{SCHEMA_PROPERTY}'"
)
_COLUMNS = (
    f"select 'column\t' || t.TBL_NAME || '\t' || c.COLUMN_NAME || '\t.' {_OF_TABLES} "
    "join SDS s on s.SD_ID = t.SD_ID join COLUMNS_V2 c on c.CD_ID = s.CD_ID "
    "where t.TBL_NAME in ({names}) order by t.TBL_NAME, c.INTEGER_IDX"
)
_PARTITIONS = (
    f"select 'partition\t' || t.TBL_NAME || '\t' || v.PART_KEY_VAL || '\t' || s.LOCATION || '\t.' {_OF_TABLES} "
    "join PARTITIONS p on p.TBL_ID = t.TBL_ID join SDS s on s.SD_ID = p.SD_ID "
    "join PARTITION_KEY_VALS v on v.PART_ID = p.PART_ID and v.INTEGER_IDX = 0 where t.TBL_NAME in ({names})"
)


@dataclass
class StoredTable:
    """A table as the metastore has it."""

    columns: list[str] = field(default_factory=list)
    """Names in order, in lower case as Hive stores them, without the partition column."""
    partitions: dict[str, str] = field(default_factory=dict)
    """Partition value -> URL of the folder that readers open."""


def read_tables(config: Config, names: Iterable[str]) -> dict[str, StoredTable] | None:
    """Those of the tables `names` that are in the metastore; the lock of the metastore is held meanwhile.

    Args:
        config: paths and metastore.
        names: names of tables of `etl.tables`: they go into SQL as they are.

    Returns:
        Table name -> table; None where only Spark can tell: a metastore on PostgreSQL, none yet, one of another
        release, an interrupted change that is to be completed, or Derby's client failed.

    Raises:
        UserError: another process still has the metastore after `metastore.lock_wait_s`.
    """
    paths, settings = config.get(Paths), config.get(MetastoreSettings)
    database = paths.metastore / "db"
    if not settings.is_embedded or not (database / "service.properties").exists() or compat.is_submitted():
        return None
    lock = MetastoreLock(paths.metastore)
    with lock.hold(settings.lock_wait_s):
        if paths.swaps.exists():
            return None
        listed = ", ".join(f"'{name}'" for name in sorted(names))
        queries = [query.format(names=listed) for query in (_VERSION, _COLUMNS, _PARTITIONS)]
        rows = list(_fields(_run(lock, database, paths.metastore / "derby.log", queries)))
    if ["version", str(SCHEMA_VERSION)] not in rows:
        return None
    tables: dict[str, StoredTable] = {}
    for kind, *values in rows:
        if kind == "column":
            tables.setdefault(values[0], StoredTable()).columns.append(values[1])
        elif kind == "partition":
            tables[values[0]].partitions[values[1]] = values[2]
    return tables


def _run(lock: MetastoreLock, database: Path, log_file: Path, queries: Iterable[str]) -> str:
    """What Derby's client prints for SQL queries; nothing when it failed."""
    java = compat.java_program()
    jars = sorted(map(str, (compat.spark_home() / "jars").glob("derby*.jar")))
    if java is None or not jars or "'" in str(database):
        return ""
    script = "".join(
        f"{statement};\n"
        for statement in (
            "maximumdisplaywidth 20000",
            f"connect 'jdbc:derby:{database}'",
            *queries,
            "disconnect",
            "exit",
        )
    )
    command = [
        java, "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx128m", "-Dfile.encoding=UTF-8",
        "-Dderby.ui.codeset=UTF-8", f"-Dderby.stream.error.file={log_file}",
        "-cp", os.pathsep.join(jars), "org.apache.derby.tools.ij",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        lock.record_jvm(process.pid)  # after a kill of this process, the next one waits for the JVM
        out, _ = process.communicate(script.encode(), timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        log.debug("Derby's client did not end within %g s", _TIMEOUT_S)
        return ""
    finally:
        process.kill()  # nothing happens to one that has ended
        process.wait()
        lock.record_jvm(None)
    text = out.decode("utf-8", errors="replace")  # a folder misread so is not found, and Spark asked
    return "" if process.returncode or "\nERROR " in text else text


def _fields(text: str) -> Iterator[list[str]]:
    """The fields of each row; what the client prints beside them has other first words."""
    for line in text.splitlines():
        kind, *values = line.removeprefix("ij> ").rstrip(" ").split("\t")
        if kind in ("version", "column", "partition") and values and values[-1] == _END:
            yield [kind, *values[:-1]]
