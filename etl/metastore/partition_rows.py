"""Partitions of an embedded metastore by SQL: etl/metastore/PartitionRows.java, compiled at its first use in a JVM.

Hive's client looks at options and folders for each partition: thousands of them take longer than all their data. The
tables are those of Hive 2.3, which Spark's client makes, and `reader.py` reads.
"""

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from importlib.resources import files
from typing import Any
from weakref import WeakKeyDictionary

from py4j.protocol import Py4JError, Py4JJavaError
from pyspark.sql import SparkSession

from conf import UserError
from etl import compat

log = logging.getLogger(__name__)

FEW_PARTITIONS = 20
"""Up to so many are asked for one by one: a query for more lists all partitions of the table."""

_PLAIN = re.compile(r"[A-Za-z0-9._-]+")  # values that Hive writes into names of partitions as they are
_SEPARATORS = re.compile(r"[\t\n]")
_helpers: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()  # by JVM; None where there is none


class PartitionRows:
    """The partitions of the default database's tables."""

    def __init__(self, helper: Any) -> None:
        self._helper = helper

    def columns(self, tables: Sequence[str]) -> dict[str, list[str]]:
        """Names of the columns of those tables that exist, without the partition columns; all in lower case."""
        columns: dict[str, list[str]] = {}
        for line in filter(None, self._helper.columns().split("\n")):
            table, name = line.split("\t")
            columns.setdefault(table, []).append(name)
        return {table: columns[table] for table in tables if table in columns}

    def locations(self, table: str, column: str, values: Sequence[str] | None = None) -> dict[str, str]:
        """Partition value -> folder, of all partitions of a table or of those of `values` that exist."""
        return {value: folder for value, (_, folder) in self._list(table, column, values).items()}

    def set_locations(self, table: str, column: str, locations: Mapping[str, str]) -> None:
        """Point partitions at other folders, all or none of them.

        Raises:
            UserError: one of the partitions is not there.
        """
        rows = self._list(table, column, list(locations))
        require_partitions(table, column, locations, rows)
        self._helper.movePartitions("\n".join(f"{rows[value][0]}\t{folder}" for value, folder in locations.items()))

    def add(self, table: str, column: str, locations: Mapping[str, str]) -> None:
        """Add partitions, which must not be there yet: all or none of them."""
        self._helper.addPartitions(
            table, column, "\n".join(f"{value}\t{folder}" for value, folder in locations.items())
        )

    def _list(self, table: str, column: str, values: Sequence[str] | None) -> dict[str, tuple[str, str]]:
        """Partition value -> id of its folder's row, and the folder."""
        is_few = values is not None and len(values) <= FEW_PARTITIONS
        names = [f"{column}={value}" for value in values or ()] if is_few else [None]
        lines = [line for name in names for line in self._helper.list(table, name).split("\n") if line]
        rows = {value: (row, folder) for row, value, folder in (line.split("\t", 2) for line in lines)}
        return rows if values is None else {value: rows[value] for value in values if value in rows}


def require_partitions(table: str, column: str, values: Collection[str], existing: Collection[str]) -> None:
    """Raises UserError when a table's partition of one of `values` is not among the existing ones."""
    if missing := sorted(set(values) - set(existing)):
        raise UserError(f"{table} has no partition {column}={missing[0]} any more: was it dropped meanwhile?")


def partition_rows(spark: SparkSession, locations: Mapping[str, str] | Sequence[str] = ()) -> PartitionRows | None:
    """The session's, to read or set the folders of these partitions; None where Spark's catalog has to do that.

    That is on PostgreSQL, which other programs may use as a metastore, for values that Hive writes in a way of its own,
    and in a new home.
    """
    folders = locations.values() if isinstance(locations, Mapping) else ()
    if not all(map(_PLAIN.fullmatch, locations)) or any(map(_SEPARATORS.search, folders)):
        return None
    jvm = compat.jvm_of(spark)
    if jvm not in _helpers:
        _helpers[jvm] = _open(spark, jvm)
    helper = _helpers[jvm]
    return PartitionRows(helper) if helper is not None and helper.isComplete() else None


def _open(spark: SparkSession, jvm: Any) -> Any:
    url = compat.hadoop_configuration(spark).get("javax.jdo.option.ConnectionURL")
    if not (url or "").startswith("jdbc:derby:"):
        return None
    try:
        loader = compat.compile_java(jvm, (files("etl.metastore") / "PartitionRows.java").read_text(encoding="utf-8"))
        connection = jvm.org.apache.derby.iapi.jdbc.AutoloadedDriver().connect(url, jvm.java.util.Properties())
        constructor = loader.loadClass("millrace.PartitionRows").getConstructors()[0]
        arguments = jvm.java.util.ArrayList()
        arguments.add(connection)
        return constructor.newInstance(arguments.toArray())
    except (Py4JError, Py4JJavaError, TypeError) as error:
        log.debug("partitions by Hive's client: %s", str(error).splitlines()[0])
        return None
