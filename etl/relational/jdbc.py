"""One database over JDBC: reading by Spark, statements by the driver's own connection, errors in one line."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.sql import DataFrame, SparkSession

from conf import Config, Paths, UsageError, UserError
from etl.relational.settings import BUSINESS, BusinessSettings, RelationalSettings, derby_url
from etl.session import SPARK_ERRORS

# What PostgreSQL's driver is asked for: text where the column says what it is, and many rows in one statement.
_PROPERTIES = {"postgresql": {"stringtype": "unspecified", "reWriteBatchedInserts": "true"}}


@dataclass(frozen=True)
class Database:
    """Where it is and who asks."""

    url: str
    login: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def kind(self) -> str:
        """postgresql, derby, mariadb …"""
        return self.url.split(":")[1] if self.url.count(":") > 1 else "?"

    @property
    def is_embedded(self) -> bool:
        """A Derby in a folder: one process at a time can open it."""
        return self.kind == "derby" and not self.url.startswith("jdbc:derby://")

    @property
    def options(self) -> dict[str, str]:
        return {"url": self.url, **self.login, **_PROPERTIES.get(self.kind, {})}


def database(config: Config, name: str) -> Database:
    """The database that settings call `name`. Raises UsageError for an unknown one, UserError where none is set up."""
    known = config.get(RelationalSettings).databases
    if name in known:
        return Database(known[name].url, _login(known[name].user, known[name].password))
    if name != BUSINESS:
        raise UsageError(f"unknown database '{name}'; choose from {', '.join([BUSINESS, *sorted(known)])}")
    settings, folder = config.get(BusinessSettings), config.get(Paths).business
    if settings.url is None and not folder.is_dir():
        raise UserError(
            f"no business database: set business.url, or make one with `millrace simulate` ({folder} is missing)"
        )
    return Database(settings.url or derby_url(folder), _login(settings.user, settings.password))


def _login(user: str | None, password: Any) -> dict[str, str]:
    return {
        **({"user": user} if user else {}),
        **({"password": password.get_secret_value()} if password is not None else {}),
    }


# --- reading, by Spark ---


def read(
    spark: SparkSession,
    source: Database,
    query: str,
    *,
    split: tuple[str, int] | None = None,
    types: Mapping[str, str] | None = None,
) -> DataFrame:
    """Rows of a query, in one connection, or in several by ranges of a column; the bounds are asked for first."""
    options = {**source.options, "dbtable": f"({query}) millrace_rows", "fetchsize": "10000"}
    if types:
        options["customSchema"] = ", ".join(f"{name} {kind}" for name, kind in types.items())
    if split:
        low, high = bounds(spark, source, query, split[0])
        if low is not None and low != high:
            options |= {"partitionColumn": split[0], "numPartitions": str(split[1])}
            options |= {"lowerBound": str(low), "upperBound": str(high)}
    with explained(f"can't read from {source.url}"):
        rows = spark.read.format("jdbc").options(**options).load()
        if source.is_embedded and not str(spark.sparkContext.master).startswith("local"):
            rows = _read_here(spark, source, query, rows.dtypes)
    return rows.toDF(*[name.lower() for name in rows.columns])


def _read_here(spark: SparkSession, source: Database, query: str, columns: Sequence[tuple[str, str]]) -> DataFrame:
    """Rows of an embedded database, which executors in other processes can't open while the driver has it."""
    with connection(spark, source) as opened:
        texts = opened.texts(query)
    frame = spark.createDataFrame(texts, ", ".join(f"`{name}` string" for name, _ in columns))
    return frame.selectExpr(*[f"cast(`{name}` as {kind}) as `{name}`" for name, kind in columns])


def release(spark: SparkSession, source: Database) -> None:
    """Close an embedded database for good, so that the next process can open it; others are left alone."""
    if not source.is_embedded:
        return
    jvm: Any = spark._jvm
    with suppress(Py4JJavaError):  # Derby tells of its end by an exception
        jvm.java.sql.DriverManager.getConnection(f"{source.url};shutdown=true")


def bounds(spark: SparkSession, source: Database, query: str, column: str) -> tuple[Any, Any]:
    """Least and greatest value; None, None without rows."""
    found = read(spark, source, f"select min({column}) as low, max({column}) as high from ({query}) millrace_bounds")
    with explained(f"can't read from {source.url}"):
        row = found.collect()[0]
    return row["low"], row["high"]


def literal(value: Any) -> str:
    """A value as SQL text that every JDBC driver reads."""
    if isinstance(value, datetime):
        return f"{{ts '{value:%Y-%m-%d %H:%M:%S.%f}'}}"
    if isinstance(value, date):
        return f"{{d '{value.isoformat()}'}}"
    if isinstance(value, (int, float, Decimal)):
        return str(value)
    return "'" + str(value).replace("'", "''") + "'"


# --- statements, by the driver's own connection ---


@dataclass(frozen=True)
class Field:
    """A column of a table: its name as the database writes it, quoted, and its comment."""

    quoted: str
    comment: str


class Connection:
    """One JDBC connection of the driver; nothing is committed but by `commit`."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def execute(self, statement: str, values: Sequence[object] = ()) -> int:
        """Run one statement; rows that it changed."""
        prepared = self._connection.prepareStatement(statement)
        try:
            for place, value in enumerate(values, 1):
                prepared.setObject(place, value)
            changed: int = prepared.executeUpdate()
            return changed
        finally:
            prepared.close()

    def rows(self, query: str, values: Sequence[object] = ()) -> list[list[Any]]:
        """All rows of a small query."""
        return self._fetched(query, values, lambda result, place: result.getObject(place))

    def texts(self, query: str) -> list[tuple[str | None, ...]]:
        """All rows of a query, every value as text."""
        return [tuple(row) for row in self._fetched(query, (), lambda result, place: result.getString(place))]

    def _fetched(self, query: str, values: Sequence[object], cell: Callable[[Any, int], Any]) -> list[list[Any]]:
        prepared = self._connection.prepareStatement(query)
        try:
            for place, value in enumerate(values, 1):
                prepared.setObject(place, value)
            result = prepared.executeQuery()
            width = result.getMetaData().getColumnCount()
            found = []
            while result.next():
                found.append([cell(result, place) for place in range(1, width + 1)])
            return found
        finally:
            prepared.close()

    def columns(self, table: str) -> dict[str, "Field"]:
        """Columns by their names in lower case. Raises UserError when there is no such table."""
        meta = self._connection.getMetaData()
        schema, name = table.rsplit(".", 1) if "." in table else (None, table)
        if meta.storesUpperCaseIdentifiers():
            schema, name = schema and schema.upper(), name.upper()
        found = meta.getColumns(None, schema, name, None)
        quote = meta.getIdentifierQuoteString()
        columns: dict[str, Field] = {}
        while found.next():
            name = found.getString("COLUMN_NAME")
            columns.setdefault(name.lower(), Field(f"{quote}{name}{quote}", found.getString("REMARKS") or ""))
        if not columns:
            raise UserError(f"no table {table} in {meta.getURL()}")
        return columns

    def commit(self) -> None:
        self._connection.commit()

    def rollback(self) -> None:
        self._connection.rollback()


@contextmanager
def connection(spark: SparkSession, target: Database) -> Iterator[Connection]:
    """A connection without auto-commit, closed at the end; what was not committed is undone."""
    jvm: Any = spark._jvm
    with explained(f"can't work with {target.url}"):
        properties = jvm.java.util.Properties()
        for name, value in target.options.items():
            if name != "url":
                properties.setProperty(name, value)
        opened = jvm.java.sql.DriverManager.getConnection(target.url, properties)
        try:
            opened.setAutoCommit(False)
            yield Connection(opened)
        finally:
            _close(opened)


def _close(opened: Any) -> None:
    """Undo what is open and close; a connection that was cut has nothing left to undo."""
    try:
        opened.rollback()
        opened.close()
    except Py4JJavaError:
        pass


@contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turn what Spark or a driver raises into one line."""
    try:
        yield
    except SPARK_ERRORS as error:
        raise UserError(f"{doing}: {cause_of(error)}") from None


def cause_of(error: Exception) -> str:
    """The driver's own words, out of all that wraps them."""
    text = str(error)
    if "No suitable driver" in text:
        return (
            "no JDBC driver for it: install one (PostgreSQL: `apt-get install libpostgresql-jdbc-java`) "
            "or name its jar in spark.jdbc_jars"
        )
    if found := re.search(r"NUMERIC_VALUE_OUT_OF_RANGE\S*\s+(.*?)\. SQLSTATE", text):
        return f"{found[1]}; read the column as another type (`types`)"
    named = re.findall(r"(?:[\w$]+\.)+(?:[\w$]*(?:SQL|PSQL)\w*(?:Exception|Error)\w*): (.+)", text)
    words = named[-1] if named else next((line for line in text.splitlines() if line.strip()), type(error).__name__)
    return str(words).strip()[:400]
