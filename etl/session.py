"""The Spark session with Hive: one per process, opened by whoever needs it first, closed by the same."""

import logging
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, BinaryIO, TypeVar

from py4j.protocol import Py4JError, Py4JJavaError, Py4JNetworkError
from pyspark import SparkConf
from pyspark.errors import PySparkException
from pyspark.logger import PySparkLogger
from pyspark.sql import SparkSession

from conf import Config, Paths, UserError, code
from conf.console.progress import waiting
from conf.machine.processes import utf8_locale, wait_or_kill
from etl import compat
from etl.jvm_stderr import last_lines, out_of_heap, quiet_stderr, reason_of_end
from etl.local_files import use_java_permissions
from etl.metastore import schema
from etl.metastore.connection import open_embedded
from etl.metastore.lock import MetastoreLock
from etl.metastore.settings import MetastoreSettings
from etl.metastore.swaps import complete_interrupted
from etl.metastore.versions import require_version
from etl.settings import SparkSettings
from etl.spark_options import options_file, spark_options
from etl.spark_progress import spark_progress

log = logging.getLogger(__name__)

Result = TypeVar("Result")

# Spark allows one session with one metastore per JVM, and Python one JVM per process: hence a global.
_session: SparkSession | None = None

_JVM_ENDS_WITHIN_S = 10.0  # once it has told Python of the error that ends it
_JVM_STOP_TIMEOUT_S = 180.0  # one that writes the archive of its classes takes a while

SPARK_ERRORS = (PySparkException, Py4JJavaError)  # which of them Spark raises depends on where a call fails

# Hive's own, which Spark lacks: its parse_url is stricter.
PARSE_URL = "hive_parse_url"
_HIVE_FUNCTIONS = {PARSE_URL: "UDFParseUrl", "parse_url_tuple": "generic.GenericUDTFParseUrlTuple"}


# They print each error with its Java stack, as JSON, before it is raised: our messages are one line.
_CONTEXT_LOGGERS = ("SQLQueryContextLogger", "DataFrameQueryContextLogger")


class SparkJobError(Exception):
    """What Spark raised, as text that outlives the session."""


@contextmanager
def spark_session(config: Config, *, is_upgrading: bool = False) -> Iterator[SparkSession]:
    """The process's session. Opened within another `spark_session` it is that one, so that a whole day shares it.

    `is_upgrading` allows tables of an earlier release on PostgreSQL.

    Raises:
        UserError: no Java, a metastore in use, without schema or of another release, Spark did not start, or its JVM
            ended too early.
        SparkJobError: Spark failed inside the block.
    """
    global _session
    if _session is not None:
        yield _session
        return
    with running_jvm(config) as jvm:
        # Before the session: Hive's client would fail on the missing schema at the first table, with a long stack.
        schema.require_schema(jvm, config)
        with waiting("the start of Spark's session"):
            _session = spark = _create_session(config)
        try:
            require_version(spark, config, is_upgrading=is_upgrading)
            complete_interrupted(spark, config)  # before anybody reads or writes
            with waiting("the work on Spark", spark_progress(spark)):
                yield spark
        except SPARK_ERRORS as error:
            if "MetaStoreClient" in str(error) and config.get(MetastoreSettings).is_embedded:
                open_embedded(jvm, config)  # Hive's message is only that it has no client
            # A local JVM ends after it, but may report the failed task first.
            settings = config.get(SparkSettings)
            if settings.is_local and (reason := out_of_heap(str(error), settings.driver_memory)):
                raise UserError(reason) from None
            # The exception asks the JVM for its text, and the JVM is about to end.
            raise SparkJobError(str(error)) from None
        finally:
            _session = None
            # A JVM that has ended can't be stopped: what the block raised says why. One that lives is closed next.
            with waiting("the end of Spark's session"), suppress(Py4JError, OSError):
                spark.stop()


def is_session_open() -> bool:
    """Whether this process is inside a `spark_session`, which has the embedded metastore for itself."""
    return _session is not None


@contextmanager
def running_jvm(config: Config) -> Iterator[Any]:
    """The JVM of a session (py4j's view), alone on an embedded metastore; it has ended when the block has.

    Within an open session it is that session's, and goes on. Raises UserError as `spark_session` does.
    """
    if _session is not None:
        yield compat.current_jvm()
        return
    require_java()
    config.get(Paths).create_root()
    metastore = config.get(MetastoreSettings)
    with ExitStack() as stack:
        lock = None
        if metastore.is_embedded:
            lock = MetastoreLock(config.get(Paths).metastore)
            # The JVM of spark-submit ends after this process: until then it has Derby open.
            stack.enter_context(lock.hold(metastore.lock_wait_s, jvm_outlives=compat.is_submitted()))
        stderr = stack.enter_context(tempfile.TemporaryFile())
        # Registered after the lock, so run before it: the lock is free only when Derby is.
        stack.callback(_stop_jvm)
        stack.enter_context(_explained_end(config, stderr))
        with waiting(f"the start of Spark on {config.get(SparkSettings).master}"):
            jvm = _launch_jvm(config, stderr)
        use_java_permissions(jvm)
        if lock is not None:
            lock.record_jvm(jvm.java.lang.ProcessHandle.current().pid())
            open_embedded(jvm, config)
        yield jvm


def run_concurrently(*jobs: Callable[[], Result]) -> list[Result]:
    """Call `jobs` in four threads and return their results in order: Spark plans one job while another runs.

    All of them end before the first error, in order of the arguments, is raised.
    """
    # Threads are enough: py4j releases the GIL while the JVM works.
    with ThreadPoolExecutor(max_workers=4) as pool:
        futures = [pool.submit(job) for job in jobs]
    return [future.result() for future in futures]


def require_java() -> None:
    """Check the Java that Spark would start.

    Raises:
        UserError: there is none, or not version 17 or 21, on which Spark fails with a stack trace.
    """
    java = compat.java_program()
    if java is None:
        raise UserError("no Java found (Spark needs 17 or 21): run `make setup`, or set JAVA_HOME")
    # Java prints its version to stderr.
    version = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=False).stderr
    if not any(f'version "{major}' in version for major in ("17", "21")):
        raise UserError(f"Spark needs Java 17 or 21, {java} is {version.splitlines()[0] if version else 'none'}")


def _launch_jvm(config: Config, stderr: BinaryIO) -> Any:
    if compat.is_submitted():
        return compat.launch_jvm()
    settings = config.get(SparkSettings)
    # Executors must run this environment's own Python, or it is some other Python without our packages.
    os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    os.environ["PYSPARK_PYTHON"] = settings.python or sys.executable
    log.info("starting Spark on %s", settings.master)
    # PYSPARK_SUBMIT_ARGS is PySpark's way to pass options to a JVM that it starts; it reads them once, at the start.
    with options_file(spark_options(config)) as file, utf8_locale(), quiet_stderr(stderr):
        os.environ["PYSPARK_SUBMIT_ARGS"] = f"--properties-file {shlex.quote(str(file))} pyspark-shell"
        try:
            return compat.launch_jvm()
        finally:
            del os.environ["PYSPARK_SUBMIT_ARGS"]


def _create_session(config: Config) -> SparkSession:
    builder = SparkSession.builder.appName("millrace").enableHiveSupport()
    # Options given to spark-submit override the configuration's.
    submitted_options = dict(SparkConf().getAll()) if compat.is_submitted() else {}
    for key, value in spark_options(config).items():
        if key not in submitted_options:
            builder = builder.config(key, value)
    with tempfile.TemporaryFile() as stderr, quiet_stderr(stderr):
        spark = builder.getOrCreate()
    if not config.get(SparkSettings).is_local and not compat.is_submitted():
        # Executors of a cluster have their own Python with libraries, and the driver's Millrace.
        spark.sparkContext.addPyFile(str(code.archive(config.get(Paths).root / "tmp")))
    for name in _CONTEXT_LOGGERS:
        PySparkLogger.getLogger(name).setLevel(logging.CRITICAL)
    for name, java_class in _HIVE_FUNCTIONS.items():
        spark.sql(f"create or replace temporary function {name} as 'org.apache.hadoop.hive.ql.udf.{java_class}'")
    return spark


@contextmanager
def _explained_end(config: Config, stderr: BinaryIO) -> Iterator[None]:
    """Where the block fails because the JVM has ended, raise a UserError with the JVM's reason."""
    try:
        yield
    except Exception as error:
        if (code := _exit_code(error)) is None:
            raise
        memory = config.get(SparkSettings).driver_memory
        raise UserError(reason_of_end(code, last_lines(stderr), memory)) from error


def _exit_code(error: Exception) -> int | None:
    """That of the JVM if it has ended, or ends because of what is behind `error`; else None."""
    process = compat.jvm_process()
    if process is None:
        return None
    try:
        return process.wait(timeout=_JVM_ENDS_WITHIN_S if _tells_of_the_end(error) else 0)
    except subprocess.TimeoutExpired:
        return None


def _tells_of_the_end(error: Exception) -> bool:
    if isinstance(error, (ConnectionRefusedError, ConnectionResetError, Py4JNetworkError)):
        return True
    try:
        return "OutOfMemoryError" in str(error)
    except (OSError, Py4JError):  # the text of Java's errors comes from the JVM
        return True


def _stop_jvm() -> None:
    """Close the gateway and wait for the JVM to end: only then is the embedded metastore free."""
    process = compat.close_jvm()
    if process is None:
        return
    with waiting("the end of Spark's JVM"):
        wait_or_kill(process, timeout_s=_JVM_STOP_TIMEOUT_S)
