"""Hive's options of the configured metastore, connections to it, and locks between sessions that share it."""

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conf import Config, Paths, UserError
from conf.console.progress import waiting
from conf.masking import split_password
from etl import compat
from etl.metastore.settings import MetastoreSettings
from etl.settings import SparkSettings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

_JDO = "javax.jdo.option.Connection"
_IS_SHUT_DOWN = "08006"  # the SQL state by which Derby says that a database was shut down
# What Derby makes before service.properties, which a database without is not one.
_UNFINISHED = {"db.lck", "dbex.lck", "log", "seg0", "tmp", "README_DO_NOT_TOUCH_FILES.txt"}


def hive_options(config: Config) -> dict[str, str]:
    """Hive's options of the configured metastore, without Spark's prefix `spark.hadoop.`.

    Raises:
        UserError: the metastore is on PostgreSQL and its JDBC driver is not installed.
    """
    settings = config.get(MetastoreSettings)
    if settings.url is None:
        return {
            # create=true: Derby and Hive make database and schema at the first use, which one process can do safely.
            f"{_JDO}URL": f"jdbc:derby:;databaseName={config.get(Paths).metastore / 'db'};create=true",
            # Nobody else is there to wait for: ten attempts on a full disk take minutes.
            "hive.hmshandler.retry.attempts": "1",
        }
    if not any("postgresql" in jar for jar in config.get(SparkSettings).installed_jdbc_jars):
        raise UserError(
            "metastore.url is PostgreSQL and its JDBC driver is not installed: install libpostgresql-jdbc-java, "
            "or name the jar in spark.jdbc_jars"
        )
    url, login = split_password(settings.url)  # in the URL, Hive's messages would have it
    options = {
        f"{_JDO}URL": url,
        f"{_JDO}DriverName": "org.postgresql.Driver",
        # `millrace warehouse init` creates the schema, never a table's first use: that deadlocks (see schema.py).
        "datanucleus.schema.autoCreateAll": "false",
        "hive.metastore.schema.verification": "false",
        "datanucleus.connectionPoolingType": "dbcp",
    }
    if (user := settings.user or login.get("user")) is not None:
        options[f"{_JDO}UserName"] = user
    password = settings.password.get_secret_value() if settings.password else login.get("password")
    if password is not None:
        options[f"{_JDO}Password"] = password
    return options


def open_embedded(jvm: Any, config: Config) -> None:
    """Open the embedded metastore once, by itself: Hive would try again for three minutes, and then print its stacks.

    Created here, too, whole or not at all; the caller holds the lock of the metastore.

    Raises:
        UserError: Derby can't create or open it: a full disk, no permission, a damaged file.
    """
    from py4j.protocol import Py4JJavaError

    folder = config.get(Paths).metastore
    try:
        driver = jvm.org.apache.derby.iapi.jdbc.AutoloadedDriver()
        if _is_missing(folder / "db"):
            _create_database(driver, jvm.java.util.Properties(), folder / "db")
        connection = driver.connect(hive_options(config)[f"{_JDO}URL"], jvm.java.util.Properties())
        is_read_only = connection.isReadOnly()
        connection.close()
    except Py4JJavaError as error:
        raise UserError(
            f"can't open the embedded metastore in {folder}: {_root_message(error.java_exception)}"
        ) from None
    if is_read_only:
        # What Derby does about a database that it can't write its log to.
        raise UserError(f"can't write to the embedded metastore in {folder}: its disk is full, or it is read-only")


def _is_missing(database: Path) -> bool:
    """Whether there is no database, or one that a kill left unfinished: Derby refuses it, and so every later start."""
    if not database.exists():
        return True
    names = {path.name for path in database.iterdir()}
    return "service.properties" not in names and names <= _UNFINISHED


def _create_database(driver: Any, properties: Any, database: Path) -> None:
    """Create a database aside and then give it its name: a kill in between leaves nothing that is taken for one."""
    from py4j.protocol import Py4JJavaError

    staged = database.with_name(f"{database.name}.new")
    for unfinished in (staged, database):
        if unfinished.exists():
            log.warning("removing %s, which was left unfinished", unfinished)
            shutil.rmtree(unfinished)
    url = f"jdbc:derby:;databaseName={staged}"
    driver.connect(f"{url};create=true", properties).close()
    try:
        driver.connect(f"{url};shutdown=true", properties)
    except Py4JJavaError as error:
        if error.java_exception.getSQLState() != _IS_SHUT_DOWN:
            raise
    staged.rename(database)


def _root_message(error: Any) -> str:
    """The innermost message: Derby's first one only says that there is another."""
    while (following := error.getNextException()) is not None:
        error = following
    while error.getCause() is not None:
        error = error.getCause()
    return str(error.getMessage() or error.toString()).splitlines()[0]


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
