"""Table definitions and partition locations of the default database, by Spark's own catalog calls.

`spark.catalog` takes three times as long, and every stage asks for each of its tables.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pyspark.sql import SparkSession

from etl import compat


def table_names(spark: SparkSession) -> list[str]:
    """Names of all tables and views of the default database, whoever created them."""
    names = compat.external_catalog(spark).listTables("default")
    return list(_collections(spark).asJava(names))


def column_names(spark: SparkSession, table: str) -> list[str] | None:
    """Names of a table's columns without the partition columns; None when there is no such table."""
    # Asking and catching would cost a Java stack trace for each table that is not there yet.
    catalog = compat.external_catalog(spark)
    if not catalog.tableExists("default", table):
        return None
    return list(catalog.getTable("default", table).dataSchema().fieldNames())


def partition_locations(
    spark: SparkSession, table: str, values: Mapping[str, str] | None = None
) -> Iterator[tuple[dict[str, str], str]]:
    """Yield each partition of a table as ({partition column: value}, folder); one call to the metastore for all.

    Args:
        spark: the session.
        table: of the default database.
        values: partition column -> value: only the partitions with these.
    """
    jvm = compat.jvm_of(spark)
    collections = _collections(spark)
    spec = jvm.scala.Option.empty()
    if values is not None:
        spec = jvm.scala.Option.apply(jvm.org.apache.spark.api.python.PythonUtils.toScalaMap(dict(values)))
    partitions = compat.external_catalog(spark).listPartitions("default", table, spec)
    for partition in collections.asJava(partitions):
        values = {str(key): str(value) for key, value in collections.asJava(partition.spec()).items()}
        # Through Hadoop's Path, because a URI writes a space as %20.
        yield values, str(jvm.org.apache.hadoop.fs.Path(partition.storage().locationUri().get()).toString())


def comparable_url(url: str) -> str:
    """`file:///a` and `file:/a` as one text: Hadoop writes either."""
    return url.replace(":///", ":/")


def _collections(spark: SparkSession) -> Any:
    """Converts Scala's collections to Java's, which py4j can iterate over."""
    return compat.jvm_of(spark).scala.jdk.javaapi.CollectionConverters
