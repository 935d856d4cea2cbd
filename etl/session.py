"""The Spark session with Hive: one for the process, opened by whoever needs it first, closed by the same."""

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path

from py4j.protocol import Py4JJavaError
from pyspark import SparkContext
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from conf import Config, Paths, UserError
from etl.lock import MetastoreLock
from etl.settings import MetastoreSettings, SparkSettings

log = logging.getLogger(__name__)

_open: SparkSession | None = None

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
    require_java()
    lock = MetastoreLock(config.get(Paths).metastore)
    with lock.held(config.get(MetastoreSettings).lock_wait_s):
        spark = _start(config)
        lock.note_jvm(spark.sparkContext._jvm.java.lang.ProcessHandle.current().pid())  # type: ignore[union-attr]
        _open = spark
        try:
            yield spark
        except SPARK_ERRORS as error:
            # Its text is asked of the JVM, which is about to end.
            raise SparkJobError(str(error)) from None
        finally:
            _open = None
            _stop(spark)


def at_once(*works: Callable[[], object]) -> None:
    """Run Spark work side by side: the driver plans one job while another runs. All end; then the first error rises."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        for future in [pool.submit(work) for work in works]:
            future.result()


def require_java() -> None:
    """Raises UserError when there is no Java 17 or 21, which Spark would meet with a stack trace."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")
    if java is None:
        raise UserError("no Java found (Spark needs 17 or 21): run `make setup`, or set JAVA_HOME")
    told = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=False).stderr
    if not any(f'version "{major}' in told for major in ("17", "21")):
        raise UserError(f"Spark needs Java 17 or 21, {java} is {told.splitlines()[0] if told else 'none'}")


def _start(config: Config) -> SparkSession:
    paths, settings = config.get(Paths), config.get(SparkSettings)
    # Python workers must be this environment's own, or they are some other Python without our packages.
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    log.info("starting Spark on %s", settings.master)
    with as_file(files("etl") / "log4j2.properties") as log4j:
        builder = SparkSession.builder.appName("millrace").master(settings.master).enableHiveSupport()
        for key, value in {**_options(paths, settings, log4j), **settings.extra}.items():
            builder = builder.config(key, value)
        with _quiet_stderr():
            spark = builder.getOrCreate()
    for name, java_class in _HIVE_FUNCTIONS.items():
        spark.sql(f"create or replace temporary function {name} as 'org.apache.hadoop.hive.ql.udf.{java_class}'")
    return spark


def _options(paths: Paths, settings: SparkSettings, log4j: Path) -> dict[str, str]:
    everywhere = (
        "-XX:-DontCompileHugeMethods "  # else the long method that Spark generates for a wide row stays interpreted
        "-Xss16m"  # a log line full of escapes recurses deep in Java's regular expressions
    )
    java = [
        f"-Dlog4j2.configurationFile={log4j.as_uri()}",
        f"-Dderby.stream.error.file={paths.metastore / 'derby.log'}",
        "-XX:+UseParallelGC",
        everywhere,
    ]
    options = {
        "spark.driver.memory": settings.driver_memory,
        "spark.driver.extraJavaOptions": " ".join(java),
        "spark.executor.extraJavaOptions": everywhere,
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": str(settings.shuffle_partitions),
        "spark.sql.warehouse.dir": paths.warehouse,
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        "spark.hadoop.javax.jdo.option.ConnectionURL": f"jdbc:derby:;databaseName={paths.metastore / 'db'};create=true",
        "spark.hadoop.hive.exec.scratchdir": str(paths.root / "tmp/hive"),
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        # Nobody reads a folder before it is checked and swapped in: its files need no second rename, nor a mark.
        "spark.hadoop.mapreduce.fileoutputcommitter.algorithm.version": "2",
        "spark.hadoop.mapreduce.fileoutputcommitter.marksuccessfuljobs": "false",
    }
    if drivers := ":".join(jar for jar in settings.jdbc_jars if Path(jar).exists()):
        options |= {"spark.driver.extraClassPath": drivers, "spark.executor.extraClassPath": drivers}
    if settings.master.startswith("local"):
        options["spark.driver.host"] = options["spark.driver.bindAddress"] = "127.0.0.1"
    return options


def _stop(spark: SparkSession) -> None:
    """Stop Spark and wait for its JVM to end: only then is the embedded metastore free."""
    spark.stop()
    gateway = SparkContext._gateway
    if gateway is None:
        return
    process = getattr(gateway, "proc", None)
    gateway.shutdown()
    SparkContext._gateway = SparkContext._jvm = None
    if process is not None:
        process.stdin.close()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


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
