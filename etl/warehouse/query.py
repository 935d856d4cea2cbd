"""SQL of users: `millrace sql`."""

from collections.abc import Iterable

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession

from conf import UserError
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
        raise UserError(f"SQL: {next(line for line in message.splitlines() if line.strip())}") from None
