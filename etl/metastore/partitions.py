"""Where a table's partitions are."""

from collections.abc import Iterator
from typing import Any

from pyspark.sql import SparkSession


def locations(spark: SparkSession, table: str) -> Iterator[tuple[dict[str, str], str]]:
    """The columns' values and the folder of each partition of a table of the default database; one call for all."""
    jvm: Any = spark._jvm
    java = jvm.scala.jdk.javaapi.CollectionConverters
    catalog = spark._jsparkSession.sessionState().catalog().externalCatalog()
    for partition in java.asJava(catalog.listPartitions("default", table, jvm.scala.Option.empty())):
        values = {str(key): str(value) for key, value in java.asJava(partition.spec()).items()}
        # As a Path, for a URI writes a space as %20.
        yield values, str(jvm.org.apache.hadoop.fs.Path(partition.storage().locationUri().get()).toString())
