"""The version of the tables' schema, in the metastore: tables of earlier releases are upgraded, of later ones refused.

A release differs from the last one in tables that are new and in columns at the end of tables, null in old rows.
"""

import logging
from collections.abc import Sequence

from pyspark.sql import SparkSession

from conf import Config, UserError
from etl import compat
from etl.metastore import catalog
from etl.metastore.settings import MetastoreSettings
from etl.table import Column, Table, quote
from etl.tables import ALL, SCHEMA_PROPERTY, SCHEMA_VERSION

log = logging.getLogger(__name__)


def require_version(spark: SparkSession, config: Config, *, is_upgrading: bool = False) -> None:
    """Check that this release can work on the tables, and upgrade an embedded metastore of an earlier one.

    In place there, because one process has it: nobody of the earlier release is at work, and nothing but names of
    columns changes. On PostgreSQL others may be, and would be refused from then on: that is for a person to decide.

    Raises:
        UserError: a later release has written the tables; or an earlier one, on PostgreSQL, unless `is_upgrading`.
    """
    version = recorded_version(spark)
    if version == SCHEMA_VERSION:
        return
    if version > SCHEMA_VERSION:
        raise UserError(
            f"the tables have version {version} of the schema, this release has {SCHEMA_VERSION}: a later release has "
            "written them; update this one, or choose another home (MILLRACE_HOME)"
        )
    if not catalog.columns_by_table(spark, list(ALL)):
        _record_version(spark)  # a new home
    elif config.get(MetastoreSettings).is_embedded:
        upgrade(spark)
    elif not is_upgrading:
        raise UserError(
            "an earlier release has written the tables: end its commands on this metastore, then run "
            "`millrace warehouse upgrade` once"
        )


def recorded_version(spark: SparkSession) -> int:
    """The version of the metastore's tables; 0 for those of a release that recorded none."""
    value = compat.external_catalog(spark).getDatabase("default").properties().get(SCHEMA_PROPERTY)
    return int(value.get()) if value.isDefined() else 0


def upgrade(spark: SparkSession) -> dict[str, int]:
    """Add the columns that tables lack and record the version; again, it changes nothing.

    A table whose columns differ in another way stays, with a warning: the stages that use it refuse it.

    Returns:
        The version, and the numbers of tables and columns that were changed.
    """
    tables = columns = 0
    for name, existing in catalog.columns_by_table(spark, list(ALL)).items():
        missing = missing_columns(ALL[name], existing)
        if missing is None:
            log.warning("%s has columns that no release has given it, and stays as it is", name)
        elif missing:
            add_columns(spark, name, missing)
            tables, columns = tables + 1, columns + len(missing)
    _record_version(spark)  # last: after a kill, again
    if tables:
        log.info("upgraded the tables to version %d of the schema: %d columns of %d", SCHEMA_VERSION, columns, tables)
    return {"version": SCHEMA_VERSION, "tables": tables, "columns": columns}


def missing_columns(table: Table, existing: Sequence[str]) -> tuple[Column, ...] | None:
    """What a table's description has gained at the end since; None where the columns differ in another way."""
    # Hive stores names in lower case.
    described = [name.lower() for name in table.column_names]
    if [name.lower() for name in existing] != described[: len(existing)]:
        return None
    return table.columns[len(existing) :]


def add_columns(spark: SparkSession, name: str, columns: Sequence[Column]) -> None:
    """Add columns at the end of a table, the only place where Hive's ALTER TABLE can."""
    definitions = ", ".join(f"`{column.name}` {column.type} COMMENT {quote(column.comment)}" for column in columns)
    spark.sql(f"ALTER TABLE {name} ADD COLUMNS ({definitions})")


def _record_version(spark: SparkSession) -> None:
    external = compat.external_catalog(spark)
    database = external.getDatabase("default")
    properties = database.properties().updated(SCHEMA_PROPERTY, str(SCHEMA_VERSION))
    # ALTER DATABASE writes the location anew, which Hive refuses where a home's name has letters that URLs escape.
    location = database.locationUri()
    external.alterDatabase(database.copy(database.name(), database.description(), location, properties))
