"""Make the metastore's tables in PostgreSQL, all at once and before the first use: `millrace warehouse init`.

Made lazily, as Hive would, the first CREATE TABLE never ends: DataNucleus adds a table with a foreign key to TBLS on a
second connection, which waits for the lock that the first holds on TBLS.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from conf import Config, UserError
from etl.metastore.connection import connect, hive_options
from etl.metastore.settings import MetastoreSettings

log = logging.getLogger(__name__)

_MODEL = "org.apache.hadoop.hive.metastore.model."
_VERSION = "2.3.0"  # of the schema that Spark's Hive client speaks


def create(jvm: Any, config: Config) -> int:
    """Create what is missing; returns the number of tables. Running it again changes nothing."""
    with _connected(jvm, config) as connection:
        _create_all(jvm, config)
        _note_version(connection)
        return len(_tables(connection))


def require(jvm: Any, config: Config) -> None:
    """Raises UserError when the metastore is on PostgreSQL and `create` has not run to its end there."""
    if config.get(MetastoreSettings).url is None:
        return
    with _connected(jvm, config) as connection:
        if "VERSION" in _tables(connection):
            rows = connection.createStatement().executeQuery('select count(*) from "VERSION"')
            rows.next()
            if rows.getInt(1):
                return
    raise UserError("the metastore's schema is not made yet: run `millrace warehouse init` once")


@contextmanager
def _connected(jvm: Any, config: Config) -> Iterator[Any]:
    connection = connect(jvm, hive_options(config).get)
    try:
        yield connection
    finally:
        connection.close()


def _create_all(jvm: Any, config: Config) -> None:
    properties = jvm.java.util.Properties()
    values = hive_options(config) | {
        "javax.jdo.PersistenceManagerFactoryClass": "org.datanucleus.api.jdo.JDOPersistenceManagerFactory",
        "datanucleus.schema.autoCreateAll": "true",
        "datanucleus.identifierFactory": "datanucleus1",
        "datanucleus.connectionPoolingType": "NONE",
        "datanucleus.rdbms.useLegacyNativeValueStrategy": "true",
        "datanucleus.plugin.pluginRegistryBundleCheck": "LOG",
    }
    for key, value in values.items():
        if not key.startswith("hive."):
            properties.setProperty(key, value)
    factory = jvm.javax.jdo.JDOHelper.getPersistenceManagerFactory(properties)
    try:
        names = jvm.java.util.HashSet()
        for name in _classes(jvm):
            names.add(_MODEL + name)
        factory.getNucleusContext().getStoreManager().createSchemaForClasses(names, jvm.java.util.Properties())
    finally:
        factory.close()


def _classes(jvm: Any) -> list[str]:
    """Classes that Hive's own mapping file declares, but for those that live within another's table."""
    stream = jvm.java.lang.Thread.currentThread().getContextClassLoader().getResourceAsStream("package.jdo")
    text = bytes(stream.readAllBytes()).decode()
    found = re.findall(r'<class name="(\w+)"([^>]*)>', text)
    return [name for name, attributes in found if "embedded-only" not in attributes]


def _tables(connection: Any) -> set[str]:
    rows = connection.createStatement().executeQuery(
        "select table_name from information_schema.tables where table_schema = current_schema()"
    )
    names = set()
    while rows.next():
        names.add(str(rows.getString(1)))
    return names


def _note_version(connection: Any) -> None:
    """The row that tells Hive clients which schema this is; written last, it also says that all is made."""
    connection.createStatement().execute(
        'insert into "VERSION" ("VER_ID", "SCHEMA_VERSION", "VERSION_COMMENT") '
        f"""select 1, '{_VERSION}', 'made by Millrace' where not exists (select 1 from "VERSION")"""
    )
