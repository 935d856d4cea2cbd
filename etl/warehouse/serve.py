"""A HiveServer2 endpoint over the warehouse: `millrace warehouse serve`, for beeline, JDBC, ODBC and DB-API clients."""

import ipaddress
import logging
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from conf import Config, Paths, Settings, UserError
from conf.processes import free_port, stop_process
from conf.stopping import stop_signals
from etl.metastore import schema
from etl.metastore.lock import MetastoreLock
from etl.metastore.settings import MetastoreSettings
from etl.session import require_java, running_jvm
from etl.spark_options import options_file, spark_options, spark_program

log = logging.getLogger(__name__)

SERVER = "org.apache.spark.sql.hive.thriftserver.HiveThriftServer2"
STARTS_WITHIN_S = 180.0


class ServeSettings(Settings):
    """Where the endpoint listens, and who may come in."""

    section: ClassVar[str] = "serve"

    host: str = "127.0.0.1"
    """Address to listen on. Any but this machine's own needs `authentication`."""
    port: int = Field(default=10000, ge=0, le=65535)
    """0 takes a free one."""
    authentication: Literal["none", "ldap", "kerberos"] = "none"
    ldap_url: str | None = None
    """ldaps://directory.example.com"""
    ldap_user_pattern: str | None = None
    """Distinguished name of a user, %s being who logs in: uid=%s,ou=people,dc=example,dc=com"""
    principal: str | None = None
    """Kerberos: of the service, as hive/_HOST@EXAMPLE.COM"""
    keytab: Path | None = None
    keystore: Path | None = None
    """Java key store: then the endpoint speaks TLS. Its password: `spark.extra`, hive.server2.keystore.password."""


def run(config: Config) -> dict[str, object]:
    """Serve until asked to stop. Raises UserError when the endpoint would be open to all, or does not start."""
    settings = config.get(ServeSettings)
    with stop_signals() as stopped, started(config) as (process, port):
        log.info("serving jdbc:hive2://%s:%d", settings.host, port)
        while not stopped and process.poll() is None:
            time.sleep(0.2)
        if not stopped:
            raise UserError(f"the endpoint ended by itself with {process.returncode}")
    return {"served": f"jdbc:hive2://{settings.host}:{port}"}


@contextmanager
def started(config: Config) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The server's process and port, once it accepts connections; ended with the block."""
    settings = config.get(ServeSettings)
    hive = endpoint_options(settings)
    port = free_port(settings.host, settings.port, setting="serve.port")
    hive |= {"hive.server2.thrift.port": str(port), "hive.server2.thrift.bind.host": settings.host}
    options = spark_options(config) | {f"spark.hadoop.{key}": value for key, value in hive.items()}
    with ExitStack() as stack:
        lock = None
        if config.get(MetastoreSettings).url is None:
            require_java()
            lock = MetastoreLock(config.get(Paths).metastore)
            stack.enter_context(lock.held(config.get(MetastoreSettings).lock_wait_s))
        else:
            with running_jvm(config) as jvm:
                schema.require(jvm, config)
        file = stack.enter_context(options_file(options))
        submit = str(spark_program("spark-submit"))
        command = [submit, "--properties-file", str(file), "--class", SERVER, "spark-internal"]
        for key in ("hive.server2.thrift.port", "hive.server2.thrift.bind.host"):
            command += ["--hiveconf", f"{key}={hive[key]}"]
        process = subprocess.Popen(command, stdout=sys.stderr, start_new_session=True)
        stack.callback(stop_process, process)
        if lock is not None:
            lock.note_jvm(process.pid)
        _wait(process, settings.host, port)
        yield process, port


def endpoint_options(settings: ServeSettings) -> dict[str, str]:
    """Hive's options of the endpoint. Raises UserError where anybody on the network could come in."""
    found = {"hive.server2.authentication": settings.authentication.upper(), "hive.server2.enable.doAs": "false"}
    if settings.authentication == "none" and not _is_loopback(settings.host):
        raise UserError(
            f"serve.host {settings.host} lets others in: set serve.authentication to ldap or kerberos "
            "(docs/server.md), or listen on 127.0.0.1"
        )
    wanted: dict[str, tuple[str, object]] = {}
    if settings.authentication == "ldap":
        wanted = {
            "hive.server2.authentication.ldap.url": ("serve.ldap_url", settings.ldap_url),
            "hive.server2.authentication.ldap.userDNPattern": ("serve.ldap_user_pattern", settings.ldap_user_pattern),
        }
    elif settings.authentication == "kerberos":
        wanted = {
            "hive.server2.authentication.kerberos.principal": ("serve.principal", settings.principal),
            "hive.server2.authentication.kerberos.keytab": ("serve.keytab", settings.keytab),
        }
    for key, (name, value) in wanted.items():
        if value is None:
            raise UserError(f"serve.authentication={settings.authentication} needs {name}")
        found[key] = str(value)
    if settings.keystore is not None:
        found |= {"hive.server2.use.SSL": "true", "hive.server2.keystore.path": str(settings.keystore)}
    return found


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _wait(process: "subprocess.Popen[bytes]", host: str, port: int) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise UserError(f"the endpoint did not start; it ended with {process.returncode}")
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex((host, port)) == 0:
                return
        time.sleep(0.2)
    raise UserError(f"the endpoint did not accept connections within {STARTS_WITHIN_S:.0f} s")
