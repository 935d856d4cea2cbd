"""Create the metastore's tables in PostgreSQL, all at once and before the first use: `millrace warehouse init`.

Created lazily, as Hive would, the first CREATE TABLE never ends: DataNucleus adds a table with a foreign key to TBLS on
a second connection, which waits for the lock that the first one holds on TBLS.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from conf import Config, UserError
from etl.metastore.connection import connect, hive_options
from etl.metastore.settings import MetastoreSettings

_MODEL = "org.apache.hadoop.hive.metastore.model."
# Spark 4 still has Hive 2.3's client.
_VERSION = "2.3.0"  # of the schema that Spark's Hive client expects


def create_schema(jvm: Any, config: Config) -> int:
    """Create what is missing in the configured PostgreSQL; returns the number of tables.

    Running it again changes nothing. Raises UserError when the database can't be reached.
    """
    with _connection(jvm, config) as connection:
        _create_tables(jvm, config)
        # The row tells Hive clients which schema this is; written last, it also says that all tables exist.
        connection.createStatement().execute(
            'insert into "VERSION" ("VER_ID", "SCHEMA_VERSION", "VERSION_COMMENT") '
            f"""select 1, '{_VERSION}', 'made by Millrace' where not exists (select 1 from "VERSION")"""
        )
        names = _table_names(connection)
    return len(names)


def require_schema(jvm: Any, config: Config) -> None:
    """Check that a metastore on PostgreSQL has its schema; the embedded one creates its own.

    Raises:
        UserError: `create_schema` has not run to its end there, or the database can't be reached.
    """
    if config.get(MetastoreSettings).is_embedded:
        return
    # By JDBC, before Hive's client connects, which fails with a page of stack where there is no schema.
    with _connection(jvm, config) as connection:
        if "VERSION" in _table_names(connection):
            rows = connection.createStatement().executeQuery('select count(*) from "VERSION"')
            rows.next()
            if rows.getInt(1):
                return
    raise UserError("the metastore has no schema yet: run `millrace warehouse init` once")


@contextmanager
def _connection(jvm: Any, config: Config) -> Iterator[Any]:
    connection = connect(jvm, hive_options(config).get)
    try:
        yield connection
    finally:
        connection.close()


def _create_tables(jvm: Any, config: Config) -> None:
    """Let DataNucleus, Hive's object-relational mapper, create the tables of all its classes in one call."""
    properties = jvm.java.util.Properties()
    # identifierFactory and the value strategy as Hive sets them: they decide how columns are named and ids drawn.
    options = hive_options(config) | {
        "javax.jdo.PersistenceManagerFactoryClass": "org.datanucleus.api.jdo.JDOPersistenceManagerFactory",
        "datanucleus.schema.autoCreateAll": "true",
        "datanucleus.identifierFactory": "datanucleus1",
        "datanucleus.connectionPoolingType": "NONE",
        "datanucleus.rdbms.useLegacyNativeValueStrategy": "true",
        "datanucleus.plugin.pluginRegistryBundleCheck": "LOG",
    }
    for key, value in options.items():
        if not key.startswith("hive."):
            properties.setProperty(key, value)
    factory = jvm.javax.jdo.JDOHelper.getPersistenceManagerFactory(properties)
    try:
        names = jvm.java.util.HashSet()
        for name in _persistent_classes(jvm):
            names.add(_MODEL + name)
        factory.getNucleusContext().getStoreManager().createSchemaForClasses(names, jvm.java.util.Properties())
    finally:
        factory.close()


def _persistent_classes(jvm: Any) -> list[str]:
    """Classes of Hive's own mapping file (package.jdo), without those that are embedded in another's table."""
    stream = jvm.java.lang.Thread.currentThread().getContextClassLoader().getResourceAsStream("package.jdo")
    text = bytes(stream.readAllBytes()).decode()
    classes = re.findall(r'<class name="(\w+)"([^>]*)>', text)
    return [name for name, attributes in classes if "embedded-only" not in attributes]


def _table_names(connection: Any) -> set[str]:
    rows = connection.createStatement().executeQuery(
        "select table_name from information_schema.tables where table_schema = current_schema()"
    )
    names = set()
    while rows.next():
        names.add(str(rows.getString(1)))
    return names
