"""SQL of users: `millrace sql`."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, Row, SparkSession

from conf import UserError
from etl.session import SPARK_ERRORS
from etl.tables import ALL


def query(spark: SparkSession, statement: str, tables: Iterable[str] = tuple(ALL)) -> DataFrame:
    """Analyse a SQL statement; it runs when its rows are fetched (DDL at once).

    Raises:
        UserError: in one line, for a mistake in the statement, or one of `tables` that no stage has written yet.
    """
    # AnalysisException has the whole plan in its text; a user wants its first line.
    try:
        return spark.sql(statement)
    except AnalysisException as error:
        message = str(error)
        unwritten = [name for name in tables if f"`{name}`" in message]
        if "TABLE_OR_VIEW_NOT_FOUND" in message and unwritten:
            raise UserError(f"{unwritten[0]} is empty: no stage has written it yet") from None
        raise UserError(f"SQL: {_first_line(message)}") from None


def rows_of(frame: DataFrame) -> Iterator[tuple[Any, ...]]:
    """Fetch the rows of a query, partition by partition, structs as dicts.

    Spark's limit on results (spark.driver.maxResultSize) then holds for each partition alone.

    Raises:
        UserError: in one line, for what only the data show: a division by zero, a text that is no number.
    """
    try:
        for row in frame.toLocalIterator():
            yield tuple(map(_plain, row))
    except SPARK_ERRORS as error:
        raise UserError(f"SQL: {_first_line(str(error))}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, Row):
        return {name: _plain(item) for name, item in zip(value.__fields__, value, strict=True)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _first_line(message: str) -> str:
    """Spark's own message, which begins with the error's class in brackets; it may lie under py4j's and a stack."""
    match = re.search(r"\[[A-Z][A-Z0-9_.]+\] .+", message)
    return match[0] if match else next(line for line in message.splitlines() if line.strip())
