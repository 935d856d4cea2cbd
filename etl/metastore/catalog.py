"""Table definitions and partition locations of the default database, by Spark's own catalog calls.

`spark.catalog` takes three times as long, and every stage asks for each of its tables.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pyspark.sql import SparkSession

from etl import compat
from etl.metastore.partition_rows import FEW_PARTITIONS, partition_rows, require_partitions
from etl.table import quote


def table_names(spark: SparkSession) -> list[str]:
    """Names of all tables and views of the default database, whoever created them."""
    names = compat.external_catalog(spark).listTables("default")
    return list(_collections(spark).asJava(names))


def column_names(spark: SparkSession, table: str) -> list[str] | None:
    """Names of a table's columns without the partition columns; None when there is no such table."""
    return columns_by_table(spark, [table]).get(table)


def columns_by_table(spark: SparkSession, tables: Sequence[str]) -> dict[str, list[str]]:
    """As `column_names`, of those of several tables that exist; names in lower case."""
    if rows := partition_rows(spark):
        return rows.columns([name.lower() for name in tables])
    # One call, and no Java stack trace for each table that is not there yet.
    names = compat.jvm_of(spark).java.util.ArrayList()
    for name in tables:
        names.add(name)
    entries = compat.external_catalog(spark).getTablesByName("default", _collections(spark).asScala(names).toSeq())
    return {
        str(entry.identifier().table()): list(entry.dataSchema().fieldNames())
        for entry in _collections(spark).asJava(entries)
    }


def partition_values(spark: SparkSession, table: str, column: str) -> list[str]:
    """Values of a table's partition column; SHOW PARTITIONS makes a Spark query of the same."""
    if rows := partition_rows(spark):
        return list(rows.locations(table, column))
    no_spec = compat.jvm_of(spark).scala.Option.empty()
    names = compat.external_catalog(spark).listPartitionNames("default", table, no_spec)
    return [name.split("=", 1)[1] for name in _collections(spark).asJava(names)]


def partition_locations(spark: SparkSession, table: str) -> Iterator[tuple[dict[str, str], str]]:
    """Yield each partition of a table as ({partition column: value}, folder); one call to the metastore for all."""
    for partition in _list_partitions(spark, table, None):
        spec = _collections(spark).asJava(partition.spec())
        yield {str(key): str(value) for key, value in spec.items()}, _folder(compat.jvm_of(spark), partition)


def locations_of(spark: SparkSession, table: str, column: str, values: Sequence[str] | None = None) -> dict[str, str]:
    """Partition value -> folder, of all partitions, or of those of `values` that exist."""
    if rows := partition_rows(spark, values or ()):
        return rows.locations(table, column, values)
    if values is None:
        return {spec[column]: folder for spec, folder in partition_locations(spark, table)}
    partitions = _partitions(spark, table, column, values)
    return {value: _folder(compat.jvm_of(spark), partition) for value, partition in partitions.items()}


def set_locations(spark: SparkSession, table: str, column: str, locations: Mapping[str, str]) -> None:
    """Point partitions at other folders: partition value -> folder.

    All in one call, which for Hive is one transaction. A statement for each has five calls and takes twice as long.

    Raises:
        UserError: one of the partitions is not there; all stay as they are.
    """
    if not locations:
        return
    if rows := partition_rows(spark, locations):
        rows.set_locations(table, column, locations)
        forget_files(spark, table)
        return
    partitions = _partitions(spark, table, column, list(locations))
    require_partitions(table, column, locations, partitions)
    jvm = compat.jvm_of(spark)
    changed = jvm.java.util.ArrayList()
    for value, partition in partitions.items():
        changed.add(_at_location(jvm, partition, locations[value]))
    compat.external_catalog(spark).alterPartitions("default", table, _collections(spark).asScala(changed).toSeq())
    # As the statement does: this session may have the old partitions' files in its cache.
    spark.catalog.refreshTable(table)


def add_partitions(spark: SparkSession, table: str, column: str, locations: Mapping[str, str]) -> None:
    """Add partitions to a table, all in one call: partition value -> folder. None of them may be there yet."""
    if not locations:
        return
    if rows := partition_rows(spark, locations):
        rows.add(table, column, locations)
        forget_files(spark, table)
        return
    added = [f"PARTITION (`{column}` = {quote(value)}) LOCATION {quote(url)}" for value, url in locations.items()]
    spark.sql(f"ALTER TABLE {table} ADD {' '.join(added)}")


def forget_files(spark: SparkSession, table: str) -> None:
    """Let the session list a table's partitions anew, and compute again what it has persisted of them."""
    if compat.has_persisted(spark):
        spark.catalog.refreshTable(table)
    else:
        compat.forget_table(spark, table)


def _partitions(spark: SparkSession, table: str, column: str, values: Sequence[str]) -> dict[str, Any]:
    """Partition value -> Spark's CatalogTablePartition, for those of `values` that exist."""
    specs = [{column: value} for value in values] if len(values) <= FEW_PARTITIONS else [None]
    partitions = (partition for spec in specs for partition in _list_partitions(spark, table, spec))
    by_value = {str(partition.spec().apply(column)): partition for partition in partitions}
    return {value: by_value[value] for value in values if value in by_value}


def _list_partitions(spark: SparkSession, table: str, values: Mapping[str, str] | None) -> Any:
    """Spark's CatalogTablePartition of each partition with these values of its columns; None: of all."""
    jvm = compat.jvm_of(spark)
    spec = jvm.scala.Option.empty()
    if values is not None:
        spec = jvm.scala.Option.apply(jvm.org.apache.spark.api.python.PythonUtils.toScalaMap(dict(values)))
    return _collections(spark).asJava(compat.external_catalog(spark).listPartitions("default", table, spec))


def _folder(jvm: Any, partition: Any) -> str:
    # Through Hadoop's Path, because a URI writes a space as %20.
    return str(jvm.org.apache.hadoop.fs.Path(partition.storage().locationUri().get()).toString())


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
