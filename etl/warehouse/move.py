"""Copy the definitions of the embedded metastore to the configured one: `millrace warehouse move`.

Files stay where they are: tables and partitions of the new metastore point at them.
"""

import logging
from dataclasses import dataclass

from pyspark.sql import SparkSession

from conf import Config, UserError
from etl.metastore.catalog import external, locations, tables
from etl.metastore.connection import advisory_lock
from etl.metastore.settings import MetastoreSettings
from etl.session import spark_session
from etl.table import quote

log = logging.getLogger(__name__)

AT_ONCE = 200  # partitions added by one statement


@dataclass(frozen=True)
class Definition:
    """A table or view, and where each partition is."""

    name: str
    statement: str
    is_view: bool
    partitions: tuple[tuple[tuple[tuple[str, str], ...], str], ...]
    """((column, value), …) and location of each."""


def run(config: Config) -> dict[str, int]:
    """Copy what the new metastore lacks; tables and partitions that it has are left. Running it again is safe."""
    if config.get(MetastoreSettings).url is None:
        raise UserError("set metastore.url to where the definitions are to go")
    with spark_session(config.with_values({"metastore.url": None})) as spark:
        held = definitions(spark)
    with spark_session(config) as spark, advisory_lock(spark, "move"):
        return _define(spark, held)


def definitions(spark: SparkSession) -> list[Definition]:
    """Every table of the default database, views last: they refer to tables."""
    found = [_definition(spark, name) for name in tables(spark)]
    return sorted(found, key=lambda definition: (definition.is_view, definition.name))


def _definition(spark: SparkSession, name: str) -> Definition:
    about = external(spark).getTable("default", name)
    is_view = about.tableType().name() == "VIEW"
    as_hive = " AS SERDE" if about.provider().isDefined() and about.provider().get() == "hive" else ""
    statement = spark.sql(f"SHOW CREATE TABLE `{name}`{as_hive}").collect()[0][0]
    partitions = []
    if not is_view and about.partitionColumnNames().size():
        partitions = [(tuple(values.items()), at) for values, at in locations(spark, name)]
    return Definition(name, statement, is_view, tuple(partitions))


def _define(spark: SparkSession, held: list[Definition]) -> dict[str, int]:
    counts = {"tables": 0, "tables_there_before": 0, "partitions": 0, "partitions_there_before": 0}
    for definition in held:
        if spark.catalog.tableExists(definition.name):
            counts["tables_there_before"] += 1
        else:
            spark.sql(definition.statement)
            counts["tables"] += 1
        there = set()
        if definition.partitions:
            there = {row[0] for row in spark.sql(f"SHOW PARTITIONS `{definition.name}`").collect()}
        missing = [(v, at) for v, at in definition.partitions if "/".join(f"{k}={x}" for k, x in v) not in there]
        counts["partitions_there_before"] += len(definition.partitions) - len(missing)
        counts["partitions"] += len(missing)
        for start in range(0, len(missing), AT_ONCE):
            added = [
                f"PARTITION ({', '.join(f'`{key}` = {quote(value)}' for key, value in values)}) LOCATION {quote(at)}"
                for values, at in missing[start : start + AT_ONCE]
            ]
            spark.sql(f"ALTER TABLE `{definition.name}` ADD IF NOT EXISTS {' '.join(added)}")
    return counts
