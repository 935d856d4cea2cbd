"""Statements over a JDBC connection of the driver's JVM: catalog look-ups, small queries, and transactions."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from conf import UserError
from etl import compat
from etl.relational.database import Database, explained


@dataclass(frozen=True)
class CatalogColumn:
    """A column of a database's table: its name as the database writes it, quoted, and its comment."""

    quoted: str
    comment: str


@dataclass(frozen=True)
class Connection:
    """One open JDBC connection without auto-commit: what was not committed is rolled back at its end.

    The JVM's objects are used directly, because Spark's JDBC source has neither transactions nor statements.
    """

    jdbc: Any
    """A java.sql.Connection, by py4j."""

    def execute(self, statement: str, values: Sequence[object] = ()) -> int:
        """Run one statement with values for its `?`; returns the number of rows that it changed."""
        prepared = self._prepare(statement, values)
        try:
            changed: int = prepared.executeUpdate()
            return changed
        finally:
            prepared.close()

    def query(self, statement: str, values: Sequence[object] = (), *, as_text: bool = False) -> list[tuple[Any, ...]]:
        """All rows of a query. Each cell is a call into the JVM: for small results only.

        Args:
            statement: a SELECT.
            values: for its `?`.
            as_text: every value as the driver writes it, instead of as a Python object.
        """
        prepared = self._prepare(statement, values)
        try:
            result = prepared.executeQuery()
            cell = result.getString if as_text else result.getObject
            columns = range(1, result.getMetaData().getColumnCount() + 1)  # JDBC counts from 1
            rows = []
            while result.next():
                rows.append(tuple(cell(column) for column in columns))
            return rows
        finally:
            prepared.close()

    def _prepare(self, statement: str, values: Sequence[object]) -> Any:
        prepared = self.jdbc.prepareStatement(statement)
        for index, value in enumerate(values, 1):
            prepared.setObject(index, value)
        return prepared

    def columns(self, table: str) -> dict[str, CatalogColumn]:
        """Columns of a table by their names in lower case.

        Args:
            table: TABLE or SCHEMA.TABLE.

        Raises:
            UserError: if there is no such table.
        """
        meta = self.jdbc.getMetaData()
        schema, name = table.rsplit(".", 1) if "." in table else (None, table)
        if meta.storesUpperCaseIdentifiers():  # Derby, as the SQL standard has it
            schema, name = schema and schema.upper(), name.upper()
        result = meta.getColumns(None, schema, name, None)
        quote = meta.getIdentifierQuoteString()
        columns: dict[str, CatalogColumn] = {}
        while result.next():
            column = result.getString("COLUMN_NAME")
            # Without a schema the catalog may list tables of this name in several: the first one counts.
            quoted = f"{quote}{column}{quote}"
            columns.setdefault(column.lower(), CatalogColumn(quoted, result.getString("REMARKS") or ""))
        if not columns:
            raise UserError(f"no table {table} in {meta.getURL()}")
        return columns

    def has_table(self, table: str) -> bool:
        """Whether there is such a table, TABLE or SCHEMA.TABLE."""
        try:
            self.columns(table)
        except UserError:
            return False
        return True

    def commit(self) -> None:
        """Make all statements since the last commit visible."""
        self.jdbc.commit()

    def rollback(self) -> None:
        """Undo all statements since the last commit."""
        self.jdbc.rollback()


@contextmanager
def connect(spark: SparkSession, database: Database) -> Iterator[Connection]:
    """Open a connection for the block; closed at its end, and what was not committed is undone.

    Args:
        spark: its JVM has the drivers.
        database: where to connect.

    Raises:
        UserError: for an error of the driver, also within the block, in one line.
    """
    jvm = compat.jvm_of(spark)
    # DriverManager, because Spark puts the drivers of `spark.jdbc_jars` on the JVM's class path.
    with explained(f"can't work with {database.url}"):
        properties = jvm.java.util.Properties()
        for name, value in database.options.items():
            if name != "url":
                properties.setProperty(name, value)
        jdbc_connection = jvm.java.sql.DriverManager.getConnection(database.url, properties)
        try:
            jdbc_connection.setAutoCommit(False)
            yield Connection(jdbc_connection)
        finally:
            with suppress(Py4JJavaError):  # a connection that was cut has nothing to undo
                jdbc_connection.rollback()
                jdbc_connection.close()


def shut_down(spark: SparkSession, database: Database) -> None:
    """Close an embedded database, which its JVM would keep open, so that the next process can open it.

    Databases with a server are left alone.
    """
    if not database.is_embedded:
        return
    jvm = compat.jvm_of(spark)
    with suppress(Py4JJavaError):  # Derby reports the end of a shutdown by an exception
        jvm.java.sql.DriverManager.getConnection(f"{database.url};shutdown=true")
