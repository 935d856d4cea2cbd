"""A HiveServer2 endpoint over the warehouse: `millrace warehouse serve`, for beeline, JDBC, ODBC and DB-API clients."""

import logging
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from conf import Config, Paths, UserError
from conf.machine.network import is_loopback
from conf.machine.processes import free_port, stop_process, stop_signals, utf8_locale
from etl.metastore import schema
from etl.metastore.lock import MetastoreLock
from etl.metastore.settings import MetastoreSettings
from etl.session import require_java, running_jvm
from etl.spark_options import options_file, spark_options, spark_program
from etl.warehouse.settings import ServeSettings

log = logging.getLogger(__name__)

# Spark's own start script (start-thriftserver.sh) starts the same class, as a daemon.
SERVER = "org.apache.spark.sql.hive.thriftserver.HiveThriftServer2"
START_TIMEOUT_S = 180.0
POLL_S = 0.2


def run(config: Config) -> dict[str, object]:
    """Serve until SIGTERM or SIGINT; returns the URL that was served.

    Raises:
        UserError: the endpoint would be open to everybody, did not start, or ended by itself.
    """
    settings = config.get(ServeSettings)
    with stop_signals() as signals, running_server(config) as (process, port):
        log.info("serving jdbc:hive2://%s:%d", settings.host, port)
        while not signals and process.poll() is None:
            time.sleep(POLL_S)
        if not signals:
            raise UserError(f"the endpoint ended by itself with {process.returncode}")
    return {"served": f"jdbc:hive2://{settings.host}:{port}"}


@contextmanager
def running_server(config: Config) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The server's process and port, once it accepts connections; it is stopped when the block ends.

    Raises UserError as `run` does.
    """
    settings = config.get(ServeSettings)
    hive = endpoint_options(settings)
    port = free_port(settings.host, settings.port, setting="serve.port")
    hive |= {"hive.server2.thrift.port": str(port), "hive.server2.thrift.bind.host": settings.host}
    options = spark_options(config) | {f"spark.hadoop.{key}": value for key, value in hive.items()}
    metastore = config.get(MetastoreSettings)
    with ExitStack() as stack:
        lock = None
        if metastore.is_embedded:
            require_java()
            lock = MetastoreLock(config.get(Paths).metastore)
            stack.enter_context(lock.hold(metastore.lock_wait_s))
        else:
            # In a JVM of our own first: the server's error about a missing schema would be a page of stack.
            with running_jvm(config) as jvm:
                schema.require_schema(jvm, config)
        file = stack.enter_context(options_file(options))
        # In a session of its own: Ctrl-C reaches this process alone, which then stops the server in order.
        with utf8_locale():
            process = subprocess.Popen(_command(file, hive), stdout=sys.stderr, start_new_session=True)
        stack.callback(stop_process, process)
        if lock is not None:
            # spark-submit's shell replaces itself by Java (exec): the pid is the JVM's.
            lock.record_jvm(process.pid)
        _wait_until_listening(process, settings.host, port)
        yield process, port


def endpoint_options(settings: ServeSettings) -> dict[str, str]:
    """Hive's options of the endpoint, without Spark's prefix.

    Raises:
        UserError: anybody on the network could connect, or the chosen authentication lacks a setting.
    """
    if settings.authentication == "none" and not is_loopback(settings.host):
        raise UserError(
            f"serve.host {settings.host} lets others in: set serve.authentication to ldap or kerberos "
            "(docs/server.md), or listen on 127.0.0.1"
        )
    # Without doAs: queries run as the server's user, the only one with access to the files.
    options = {"hive.server2.authentication": settings.authentication.upper(), "hive.server2.enable.doAs": "false"}
    required: dict[str, tuple[str, object]] = {}  # Hive's option -> our setting, its value
    if settings.authentication == "ldap":
        required = {
            "hive.server2.authentication.ldap.url": ("serve.ldap_url", settings.ldap_url),
            "hive.server2.authentication.ldap.userDNPattern": ("serve.ldap_user_pattern", settings.ldap_user_pattern),
        }
    elif settings.authentication == "kerberos":
        required = {
            "hive.server2.authentication.kerberos.principal": ("serve.principal", settings.principal),
            "hive.server2.authentication.kerberos.keytab": ("serve.keytab", settings.keytab),
        }
    for key, (setting, value) in required.items():
        if value is None:
            raise UserError(f"serve.authentication={settings.authentication} needs {setting}")
        options[key] = str(value)
    if settings.keystore is not None:
        options |= {"hive.server2.use.SSL": "true", "hive.server2.keystore.path": str(settings.keystore)}
    return options


def _command(options: Path, hive: dict[str, str]) -> list[str]:
    command = [str(spark_program("spark-submit")), "--properties-file", str(options)]
    command += ["--class", SERVER, "spark-internal"]
    # Spark documents these two as arguments of the server, not as options of its own.
    for key in ("hive.server2.thrift.port", "hive.server2.thrift.bind.host"):
        command += ["--hiveconf", f"{key}={hive[key]}"]
    return command


def _wait_until_listening(process: "subprocess.Popen[bytes]", host: str, port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise UserError(f"the endpoint did not start; it ended with {process.returncode}")
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex((host, port)) == 0:
                return
        time.sleep(POLL_S)
    raise UserError(f"the endpoint did not accept connections within {START_TIMEOUT_S:.0f} s")
