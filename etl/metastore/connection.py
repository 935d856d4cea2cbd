"""Hive's options of the configured metastore, connections to it, and locks between sessions that share it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from conf import Config, Paths, UserError
from conf.progress import waiting
from etl import compat
from etl.metastore.settings import MetastoreSettings
from etl.settings import SparkSettings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_JDO = "javax.jdo.option.Connection"


def hive_options(config: Config) -> dict[str, str]:
    """Hive's options of the configured metastore, without Spark's prefix `spark.hadoop.`.

    Raises:
        UserError: the metastore is on PostgreSQL and its JDBC driver is not installed.
    """
    settings = config.get(MetastoreSettings)
    if settings.url is None:
        # create=true: Derby and Hive make database and schema at the first use, which one process can do safely.
        return {f"{_JDO}URL": f"jdbc:derby:;databaseName={config.get(Paths).metastore / 'db'};create=true"}
    if not any("postgresql" in jar for jar in config.get(SparkSettings).installed_jdbc_jars):
        raise UserError(
            "metastore.url is PostgreSQL and its JDBC driver is not installed: install libpostgresql-jdbc-java, "
            "or name the jar in spark.jdbc_jars"
        )
    options = {
        f"{_JDO}URL": settings.url,
        f"{_JDO}DriverName": "org.postgresql.Driver",
        # `millrace warehouse init` creates the schema, never a table's first use: that deadlocks (see schema.py).
        "datanucleus.schema.autoCreateAll": "false",
        "hive.metastore.schema.verification": "false",
        "datanucleus.connectionPoolingType": "dbcp",
    }
    if settings.user is not None:
        options[f"{_JDO}UserName"] = settings.user
    if settings.password is not None:
        options[f"{_JDO}Password"] = settings.password.get_secret_value()
    return options


@contextmanager
def advisory_lock(spark: "SparkSession", name: str) -> Iterator[None]:
    """Run the block while no other session of the metastore runs one under the same `name`; waits for its turn.

    On PostgreSQL it is an advisory lock, which ends with its connection, and so with a killed process. The embedded
    metastore serves one process at a time, which needs no lock.
    """
    option = compat.hadoop_configuration(spark).get
    if not option(f"{_JDO}URL").startswith("jdbc:postgresql:"):
        yield
        return
    connection = connect(compat.jvm_of(spark), option)
    try:
        # Of the session, not of a transaction; names become numbers by PostgreSQL's own 64-bit hash.
        statement = connection.prepareStatement("select pg_advisory_lock(hashtextextended(?, 0))")
        statement.setString(1, f"millrace:{name}")
        with waiting(f"waiting for another session, which has {name}"):
            statement.execute()
        yield
    finally:
        connection.close()


def connect(jvm: Any, option: Callable[[str], str | None]) -> Any:
    """Open a JDBC connection to the PostgreSQL of Hive's options; `option` gives the value of one by its name.

    Raises:
        UserError: there is no connection, in one line with the driver's reason.
    """
    from py4j.protocol import Py4JJavaError

    properties = jvm.java.util.Properties()
    for key, name in (("user", "UserName"), ("password", "Password")):
        if (value := option(_JDO + name)) is not None:
            properties.setProperty(key, value)
    url = option(f"{_JDO}URL")
    try:
        return jvm.org.postgresql.Driver().connect(url, properties)
    except Py4JJavaError as error:
        reason = str(error.java_exception.getMessage()).splitlines()[0]
        raise UserError(f"can't reach the metastore at {url}: {reason}") from None
