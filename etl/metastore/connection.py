"""What a session is told of its metastore, and the locks that sessions of a shared one take."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from conf import Config, Paths, UserError
from etl.metastore.settings import MetastoreSettings
from etl.settings import SparkSettings, existing_jars

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_JDO = "javax.jdo.option.Connection"


def hive_options(config: Config) -> dict[str, str]:
    """Hive's options of the configured metastore, without Spark's prefix. Raises UserError without the driver."""
    settings = config.get(MetastoreSettings)
    if settings.url is None:
        return {f"{_JDO}URL": f"jdbc:derby:;databaseName={config.get(Paths).metastore / 'db'};create=true"}
    if not any("postgresql" in jar for jar in existing_jars(config.get(SparkSettings))):
        raise UserError(
            "metastore.url is PostgreSQL and its JDBC driver is not there: install libpostgresql-jdbc-java, "
            "or name the jar in spark.jdbc_jars"
        )
    found = {
        f"{_JDO}URL": settings.url,
        f"{_JDO}DriverName": "org.postgresql.Driver",
        # The schema is made by `millrace warehouse init`, never on the way: on the way it waits for itself.
        "datanucleus.schema.autoCreateAll": "false",
        "hive.metastore.schema.verification": "false",
        "datanucleus.connectionPoolingType": "dbcp",
    }
    if settings.user is not None:
        found[f"{_JDO}UserName"] = settings.user
    if settings.password is not None:
        found[f"{_JDO}Password"] = settings.password.get_secret_value()
    return found


@contextmanager
def advisory_lock(spark: "SparkSession", name: str) -> Iterator[None]:
    """Hold the lock `name`: no other session of the metastore is within `alone(name)`.

    On PostgreSQL it is an advisory lock, which ends with its connection, and so with a killed process. The embedded
    metastore serves one process at a time, which needs none.
    """
    option = spark._jsc.hadoopConfiguration().get
    if not option(f"{_JDO}URL").startswith("jdbc:postgresql:"):
        yield
        return
    held = connect(spark._jvm, option)
    try:
        statement = held.prepareStatement("select pg_advisory_lock(hashtextextended(?, 0))")
        statement.setString(1, f"millrace:{name}")
        statement.execute()
        yield
    finally:
        held.close()


def connect(jvm: Any, option: Callable[[str], str | None]) -> Any:
    """A JDBC connection to the PostgreSQL of Hive's options. Raises UserError in one line when there is none."""
    from py4j.protocol import Py4JJavaError

    properties = jvm.java.util.Properties()
    for key, name in (("user", "UserName"), ("password", "Password")):
        if (value := option(_JDO + name)) is not None:
            properties.setProperty(key, value)
    url = option(f"{_JDO}URL")
    try:
        return jvm.org.postgresql.Driver().connect(url, properties)
    except Py4JJavaError as error:
        told = str(error.java_exception.getMessage()).splitlines()[0]
        raise UserError(f"can't reach the metastore at {url}: {told}") from None
