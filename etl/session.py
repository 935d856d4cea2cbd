"""The Spark session with Hive: one for the process, opened by whoever needs it first, closed by the same."""

import logging
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from py4j.protocol import Py4JJavaError
from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from conf import Config, Paths, UserError, code
from conf.processes import wait_or_kill
from etl.metastore import schema
from etl.metastore.lock import MetastoreLock
from etl.metastore.settings import MetastoreSettings
from etl.settings import SparkSettings
from etl.spark_options import options_file, spark_options

log = logging.getLogger(__name__)

Result = TypeVar("Result")

_open: SparkSession | None = None

_JAVA_ENDS_WITHIN_S = 180.0  # one that writes the archive of its classes takes a while

SPARK_ERRORS = (PySparkException, Py4JJavaError)  # Spark raises either, by where it failed


# Hive's own, which Spark lacks: its parse_url is stricter.
PARSE_URL = "hive_parse_url"
_HIVE_FUNCTIONS = {PARSE_URL: "UDFParseUrl", "parse_url_tuple": "generic.GenericUDTFParseUrlTuple"}


class SparkJobError(Exception):
    """What Spark raised, as text that outlives the session."""


@contextmanager
def spark_session(config: Config) -> Iterator[SparkSession]:
    """The process's session. Opened within another `spark_session` it is that one, so that a whole day shares it."""
    global _open
    if _open is not None:
        yield _open
        return
    with running_jvm(config) as jvm:
        schema.require(jvm, config)
        _open = spark = _start(config)
        try:
            yield spark
        except SPARK_ERRORS as error:
            # Its text is asked of the JVM, which is about to end.
            raise SparkJobError(str(error)) from None
        finally:
            _open = None
            spark.stop()


@contextmanager
def running_jvm(config: Config) -> Iterator[Any]:
    """The JVM of a session, alone on an embedded metastore; it has ended when the block has.

    Within an open session it is that session's, and stays.
    """
    if _open is not None:
        yield SparkContext._jvm
        return
    require_java()
    with ExitStack() as stack:
        lock = None
        if config.get(MetastoreSettings).url is None:
            lock = MetastoreLock(config.get(Paths).metastore)
            # The JVM of spark-submit ends after this process: until then it holds Derby.
            stack.enter_context(lock.held(config.get(MetastoreSettings).lock_wait_s, outlived=_is_submitted()))
        stack.callback(_end_java)
        _launch_java(config)
        jvm: Any = SparkContext._jvm
        if lock is not None:
            lock.note_jvm(jvm.java.lang.ProcessHandle.current().pid())
        yield jvm


def run_concurrently(*works: Callable[[], Result]) -> list[Result]:
    """What each of `works` gives, run side by side: the driver plans one job while another runs.

    All end; then the first error rises.
    """
    with ThreadPoolExecutor(max_workers=4) as pool:
        return [future.result() for future in [pool.submit(work) for work in works]]


def require_java() -> None:
    """Raises UserError when there is no Java 17 or 21, which Spark would meet with a stack trace."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")
    if java is None:
        raise UserError("no Java found (Spark needs 17 or 21): run `make setup`, or set JAVA_HOME")
    told = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=False).stderr
    if not any(f'version "{major}' in told for major in ("17", "21")):
        raise UserError(f"Spark needs Java 17 or 21, {java} is {told.splitlines()[0] if told else 'none'}")


def _is_submitted() -> bool:
    """Whether `spark-submit` started this process, and so has a JVM with options that stand."""
    return "PYSPARK_GATEWAY_PORT" in os.environ


def _launch_java(config: Config) -> None:
    if _is_submitted():
        SparkContext._ensure_initialized()
        return
    settings = config.get(SparkSettings)
    # Python workers must be this environment's own, or they are some other Python without our packages.
    os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    os.environ["PYSPARK_PYTHON"] = settings.python or sys.executable
    log.info("starting Spark on %s", settings.master)
    with options_file(spark_options(config)) as file, _quiet_stderr():
        os.environ["PYSPARK_SUBMIT_ARGS"] = f"--properties-file {shlex.quote(str(file))} pyspark-shell"
        try:
            SparkContext._ensure_initialized()
        finally:
            del os.environ["PYSPARK_SUBMIT_ARGS"]


def _start(config: Config) -> SparkSession:
    builder = SparkSession.builder.appName("millrace").enableHiveSupport()
    told = dict(SparkConf().getAll()) if _is_submitted() else {}
    for key, value in spark_options(config).items():
        if key not in told:
            builder = builder.config(key, value)
    with _quiet_stderr():
        spark = builder.getOrCreate()
    if not config.get(SparkSettings).is_local and not _is_submitted():
        spark.sparkContext.addPyFile(str(code.archive(config.get(Paths).root / "tmp")))
    for name, java_class in _HIVE_FUNCTIONS.items():
        spark.sql(f"create or replace temporary function {name} as 'org.apache.hadoop.hive.ql.udf.{java_class}'")
    return spark


def _end_java() -> None:
    """Wait for the JVM to end: only then is the embedded metastore free."""
    gateway = SparkContext._gateway
    if gateway is None:
        return
    process = getattr(gateway, "proc", None)
    gateway.shutdown()
    SparkContext._gateway = SparkContext._jvm = None
    if process is not None:
        process.stdin.close()
        wait_or_kill(process, timeout_s=_JAVA_ENDS_WITHIN_S)


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Hide what the launcher prints before log4j is set up; on failure show it, for it says why."""
    sys.stderr.flush()
    saved = os.dup(2)
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    os.dup2(write_end, 2)
    try:
        yield
    except BaseException:
        os.dup2(saved, 2)
        noise = _drain(read_end)
        raise UserError(
            f"Spark did not start: {noise.strip().splitlines()[-1] if noise.strip() else 'see --debug'}"
        ) from None
    finally:
        os.dup2(saved, 2)
        for descriptor in (saved, write_end):
            os.close(descriptor)
        os.close(read_end)


def _drain(descriptor: int) -> str:
    try:
        return os.read(descriptor, 65536).decode(errors="replace")
    except BlockingIOError:
        return ""
