"""Prepare a metastore on PostgreSQL before its first use: `millrace warehouse init`."""

from conf import Config, UserError
from etl.metastore import schema
from etl.metastore.settings import MetastoreSettings
from etl.session import running_jvm, spark_session
from etl.tables import ALL
from etl.warehouse.store import Warehouse


def run(config: Config) -> dict[str, int]:
    """Make the metastore's schema, then every table, so that jobs that start side by side find them.

    Raises:
        UserError: the configured metastore is the embedded one, which makes its schema by itself.
    """
    if config.get(MetastoreSettings).is_embedded:
        raise UserError("the embedded metastore needs no init; set metastore.url for one on PostgreSQL")
    with running_jvm(config) as jvm:
        num_metastore_tables = schema.create_schema(jvm, config)
    # Only now: a session refuses a metastore without schema.
    with spark_session(config) as spark:
        warehouse = Warehouse(spark, config)
        for table in ALL.values():
            warehouse.ensure(table)
    return {"metastore_tables": num_metastore_tables, "tables": len(ALL)}
