"""Rows of this process as a DataFrame, inside the query's plan."""

import json
from collections.abc import Iterable, Sequence

from pyspark.sql import DataFrame, SparkSession


def local_rows(spark: SparkSession, rows: Iterable[Sequence[str | int | None]], columns: str) -> DataFrame:
    """Rows of texts and integers, thousands at most.

    `createDataFrame` imports pandas, and has a job that unpickles them.

    Args:
        spark: the session.
        rows: values in the order of the columns.
        columns: names and types, as `step string, number int`.
    """
    names = [column.split()[0] for column in columns.split(", ")]
    fields = ", ".join(": ".join(column.split()) for column in columns.split(", "))
    text = json.dumps([dict(zip(names, row, strict=True)) for row in rows])
    return spark.sql(f"select inline(from_json(:rows, 'array<struct<{fields}>>'))", args={"rows": text})
