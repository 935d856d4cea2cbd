"""Rows of a database as a DataFrame, through Spark's JDBC source."""

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from etl.relational.connection import connect
from etl.relational.database import Database, explained

FETCH_SIZE = 10_000  # rows a round trip; some drivers' default is 10, PostgreSQL's is all of them at once


def read_query(
    spark: SparkSession,
    database: Database,
    query: str,
    *,
    split: tuple[str, int] | None = None,
    types: Mapping[str, str] | None = None,
) -> DataFrame:
    """Rows of a query, read lazily, with column names in lower case.

    Args:
        spark: the session.
        database: where the query runs.
        query: a SELECT.
        split: a column and a number of connections, which read ranges of it side by side; its bounds are queried first.
        types: column -> SQL type to read it as.

    Raises:
        UserError: if the database can't be reached or refuses the query.
    """
    # A subquery needs a name in every dialect.
    options = {**database.options, "dbtable": f"({query}) millrace_rows", "fetchsize": str(FETCH_SIZE)}
    if types:
        options["customSchema"] = ", ".join(f"{name} {type_}" for name, type_ in types.items())
    if split:
        low, high = column_bounds(spark, database, query, split[0])
        # Spark refuses bounds that are null, and ranges of one value are one range.
        if low is not None and low != high:
            options |= {"partitionColumn": split[0], "numPartitions": str(split[1])}
            options |= {"lowerBound": str(low), "upperBound": str(high)}
    with explained(f"can't read from {database.url}"):
        rows = spark.read.format("jdbc").options(**options).load()
        if database.is_embedded and not str(spark.sparkContext.master).startswith("local"):
            rows = _read_in_driver(spark, database, query, rows)
    # Derby and Oracle report upper case; Hive's columns are lower case anyway.
    return rows.toDF(*[name.lower() for name in rows.columns])


def _read_in_driver(spark: SparkSession, database: Database, query: str, rows: DataFrame) -> DataFrame:
    """The rows of an embedded database, which executors in other processes can't open while the driver has it.

    They pass through the driver as text: such a database is small.
    """
    with connect(spark, database) as connection:
        # As text, because the driver's own types have no counterpart in Python; Spark casts them below.
        texts = connection.query(query, as_text=True)
    frame = spark.createDataFrame(texts, ", ".join(f"`{name}` string" for name in rows.columns))
    return frame.selectExpr(*[f"cast(`{name}` as {type_}) as `{name}`" for name, type_ in rows.dtypes])


def column_bounds(spark: SparkSession, database: Database, query: str, column: str) -> tuple[Any, Any]:
    """Least and greatest value of a column of a query; None, None without rows.

    Raises:
        UserError: as `read_query`.
    """
    bounds = f"select min({column}) as low, max({column}) as high from ({query}) millrace_bounds"
    with explained(f"can't read from {database.url}"):
        row = read_query(spark, database, bounds).collect()[0]
    return row["low"], row["high"]


def sql_literal(value: Any) -> str:
    """A value as SQL text that every JDBC driver reads: times and dates in JDBC's escape syntax, `{ts '…'}`."""
    if isinstance(value, datetime):
        return f"{{ts '{value:%Y-%m-%d %H:%M:%S.%f}'}}"
    if isinstance(value, date):
        return f"{{d '{value.isoformat()}'}}"
    if isinstance(value, (int, float, Decimal)):
        return str(value)
    return "'" + str(value).replace("'", "''") + "'"
