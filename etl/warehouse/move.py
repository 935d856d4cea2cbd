"""Copy the definitions of the embedded metastore to the configured one: `millrace warehouse move`.

Files stay where they are: tables and partitions of the new metastore point at them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import SparkSession

from conf import Config, UserError
from etl import compat
from etl.metastore import catalog
from etl.metastore.connection import advisory_lock
from etl.metastore.settings import MetastoreSettings
from etl.session import spark_session
from etl.table import quote

PARTITIONS_PER_STATEMENT = 200  # one call to the metastore each would be slow, one for all a huge statement


@dataclass(frozen=True)
class Partition:
    """The values of a table's partition columns, and the folder."""

    values: tuple[tuple[str, str], ...]
    location: str

    @property
    def clause(self) -> str:
        """Its part of ALTER TABLE … ADD."""
        values = ", ".join(f"`{column}` = {quote(value)}" for column, value in self.values)
        return f"PARTITION ({values}) LOCATION {quote(self.location)}"


@dataclass(frozen=True)
class Definition:
    """A table or view: its CREATE statement and its partitions."""

    name: str
    statement: str
    is_view: bool
    partitions: tuple[Partition, ...]


def run(config: Config) -> dict[str, int]:
    """Copy what the new metastore lacks; tables and partitions that it has stay as they are.

    Running it again is safe. Returns the numbers of tables and partitions copied, and of those there before. Raises
    UserError when no metastore to copy to is configured.
    """
    if config.get(MetastoreSettings).is_embedded:
        raise UserError("set metastore.url to where the definitions are to go")
    # One session after the other: a JVM has one metastore for its life.
    with spark_session(config.with_values({"metastore.url": None})) as spark:
        definitions = read_definitions(spark)
    with spark_session(config) as spark, advisory_lock(spark, "move"):
        return _create(spark, definitions)


def read_definitions(spark: SparkSession) -> list[Definition]:
    """Every table of the default database, views last: they refer to tables."""
    definitions = [_read_definition(spark, name) for name in catalog.table_names(spark)]
    return sorted(definitions, key=lambda definition: (definition.is_view, definition.name))


def _read_definition(spark: SparkSession, name: str) -> Definition:
    entry = compat.external_catalog(spark).getTable("default", name)
    is_view = entry.tableType().name() == "VIEW"
    # Without AS SERDE Spark prints a Hive table as one of its own (USING parquet), or refuses.
    as_serde = " AS SERDE" if entry.provider().isDefined() and entry.provider().get() == "hive" else ""
    statement = spark.sql(f"SHOW CREATE TABLE `{name}`{as_serde}").collect()[0][0]
    partitions: list[Partition] = []
    if not is_view and entry.partitionColumnNames().size():
        partitions = [
            Partition(tuple(values.items()), location) for values, location in catalog.partition_locations(spark, name)
        ]
    return Definition(name, statement, is_view, tuple(partitions))


def _create(spark: SparkSession, definitions: Sequence[Definition]) -> dict[str, int]:
    counts = {"tables": 0, "tables_there_before": 0, "partitions": 0, "partitions_there_before": 0}
    for definition in definitions:
        if spark.catalog.tableExists(definition.name):
            counts["tables_there_before"] += 1
        else:
            spark.sql(definition.statement)
            counts["tables"] += 1
        existing = set()
        if definition.partitions:
            existing = {row[0] for row in spark.sql(f"SHOW PARTITIONS `{definition.name}`").collect()}
        # SHOW PARTITIONS prints dt=2026-01-07/hour=03.
        missing = [
            partition
            for partition in definition.partitions
            if "/".join(f"{column}={value}" for column, value in partition.values) not in existing
        ]
        counts["partitions_there_before"] += len(definition.partitions) - len(missing)
        counts["partitions"] += len(missing)
        for start in range(0, len(missing), PARTITIONS_PER_STATEMENT):
            clauses = " ".join(partition.clause for partition in missing[start : start + PARTITIONS_PER_STATEMENT])
            spark.sql(f"ALTER TABLE `{definition.name}` ADD IF NOT EXISTS {clauses}")
    return counts
