"""Table definitions and partition locations of the default database, by Spark's own catalog calls.

`spark.catalog` takes three times as long, and every stage asks for each of its tables.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pyspark.sql import SparkSession

from etl import compat
from etl.table import quote

FEW_PARTITIONS = 20
"""Up to so many are asked for and changed one by one: a call for more lists all partitions of the table."""


def table_names(spark: SparkSession) -> list[str]:
    """Names of all tables and views of the default database, whoever created them."""
    names = compat.external_catalog(spark).listTables("default")
    return list(_collections(spark).asJava(names))


def column_names(spark: SparkSession, table: str) -> list[str] | None:
    """Names of a table's columns without the partition columns; None when there is no such table."""
    # One call, and no Java stack trace for each table that is not there yet.
    names = compat.jvm_of(spark).java.util.List.of(table)
    tables = compat.external_catalog(spark).getTablesByName("default", _collections(spark).asScala(names).toSeq())
    return None if tables.isEmpty() else list(tables.head().dataSchema().fieldNames())


def partition_names(spark: SparkSession, table: str) -> list[str]:
    """Names of a table's partitions, such as `dt=2026-01-07`; SHOW PARTITIONS makes a Spark query of the same."""
    no_spec = compat.jvm_of(spark).scala.Option.empty()
    names = compat.external_catalog(spark).listPartitionNames("default", table, no_spec)
    return list(_collections(spark).asJava(names))


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


def locations_of(spark: SparkSession, table: str, column: str, values: Sequence[str]) -> dict[str, str]:
    """Partition value -> folder, for those of `values`, which must exist."""
    if len(values) <= FEW_PARTITIONS:
        return {value: next(url for _, url in partition_locations(spark, table, {column: value})) for value in values}
    of_all = {spec[column]: url for spec, url in partition_locations(spark, table)}
    return {value: of_all[value] for value in values}


def set_locations(spark: SparkSession, table: str, column: str, locations: Mapping[str, str]) -> None:
    """Point partitions, which must exist, at other folders: partition value -> folder.

    Many in one call, which for Hive is one transaction; a statement for each takes ten times as long.
    """
    if len(locations) <= FEW_PARTITIONS:
        for value, url in locations.items():
            spark.sql(f"ALTER TABLE {table} PARTITION (`{column}` = {quote(value)}) SET LOCATION {quote(url)}")
        return
    jvm = compat.jvm_of(spark)
    catalog = compat.external_catalog(spark)
    changed = jvm.java.util.ArrayList()
    for partition in _collections(spark).asJava(catalog.listPartitions("default", table, jvm.scala.Option.empty())):
        value = str(partition.spec().apply(column))
        if value in locations:
            changed.add(_at_location(jvm, partition, locations[value]))
    catalog.alterPartitions("default", table, _collections(spark).asScala(changed).toSeq())
    # As the statement does: this session may have the old partitions' files in its cache.
    spark.catalog.refreshTable(table)


def _at_location(jvm: Any, partition: Any, url: str) -> Any:
    """A copy of Spark's CatalogTablePartition with another folder."""
    old = partition.storage()
    location = jvm.scala.Option.apply(jvm.org.apache.hadoop.fs.Path(url).toUri())
    formats = (old.inputFormat(), old.outputFormat(), old.serde(), old.compressed(), old.properties())
    storage = old.copy(location, *formats, old.serdeName())
    return partition.copy(
        partition.spec(),
        storage,
        partition.parameters(),
        partition.createTime(),
        partition.lastAccessTime(),
        jvm.scala.Option.empty(),
    )


def comparable_url(url: str) -> str:
    """`file:///a` and `file:/a` as one text: Hadoop writes either."""
    return url.replace(":///", ":/")


def _collections(spark: SparkSession) -> Any:
    """Converts Scala's collections to Java's, which py4j can iterate over."""
    return compat.jvm_of(spark).scala.jdk.javaapi.CollectionConverters
