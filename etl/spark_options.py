"""Spark's options for a configuration, and the private file that hands them to a JVM: all can read command lines."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path
from sysconfig import get_path

from conf import Config, Paths
from etl.metastore.connection import hive_options as metastore_options
from etl.settings import SparkSettings, existing_jars

# Spark's classes as Java keeps them once parsed (class data sharing, JEP 350): mapped, they save a quarter of a small
# job's CPU time. `make setup` writes the file; a JVM that it does not fit leaves it aside.
CLASS_ARCHIVE = Path(get_path("data")) / "spark-classes.jsa"

# Most code of a day runs some thousand times: compiling it as well as Java can takes more CPU time than running it.
# Tenfold the usual counts; what a large day repeats by the million reaches them within moments.
COMPILE_WELL_LATER = (
    "-XX:Tier4InvocationThreshold=50000 -XX:Tier4MinInvocationThreshold=6000 "
    "-XX:Tier4CompileThreshold=150000 -XX:Tier4BackEdgeThreshold=400000"
)


def spark_options(config: Config) -> dict[str, str]:
    """Every option that Millrace sets, `spark.extra` last."""
    paths, settings = config.get(Paths), config.get(SparkSettings)
    with as_file(files("etl") / "log4j2.properties") as log4j:
        log4j_file = log4j.as_uri()
    everywhere = [
        "-XX:-DontCompileHugeMethods",  # else the long method that Spark generates for a wide row stays interpreted
        "-Xss16m",  # a log line full of escapes recurses deep in Java's regular expressions
        # Java would keep 48 MB of compiled code then, and compile nothing more once they are full, after some minutes.
        "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m" if settings.compile_little else COMPILE_WELL_LATER,
    ]
    driver = [
        f"-XX:SharedArchiveFile={CLASS_ARCHIVE}" if CLASS_ARCHIVE.exists() else "",
        f"-Dlog4j2.configurationFile={log4j_file}",
        f"-Dderby.stream.error.file={paths.metastore / 'derby.log'}",
        "-XX:+UseParallelGC",
        # What the machine itself has to say does not belong among a command's results.
        "-XX:+DisplayVMOutputToStderr -Xlog:disable -Xlog:all=warning:stderr -Xlog:cds*=off:stderr",
    ]
    found = {
        "spark.master": settings.master,
        "spark.driver.memory": settings.driver_memory,
        "spark.driver.extraJavaOptions": " ".join([*driver, *everywhere]),
        "spark.executor.extraJavaOptions": " ".join(everywhere),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": str(settings.shuffle_partitions),
        "spark.sql.warehouse.dir": paths.warehouse,
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        "spark.hadoop.hive.exec.scratchdir": str(paths.root / "tmp/hive"),
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        # Nobody reads a folder before it is checked and swapped in: its files need no second rename, nor a mark.
        "spark.hadoop.mapreduce.fileoutputcommitter.algorithm.version": "2",
        "spark.hadoop.mapreduce.fileoutputcommitter.marksuccessfuljobs": "false",
        **{f"spark.hadoop.{key}": value for key, value in metastore_options(config).items()},
    }
    if drivers := ":".join(existing_jars(settings)):
        found |= {"spark.driver.extraClassPath": drivers, "spark.executor.extraClassPath": drivers}
    if settings.compile_little:
        found |= {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}
    if settings.is_local:
        found["spark.driver.host"] = found["spark.driver.bindAddress"] = "127.0.0.1"
    return found | settings.extra


def spark_program(name: str) -> Path:
    """A program of the Spark that is installed here: spark-submit, beeline …"""
    spec = find_spec("pyspark")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "bin" / name


@contextmanager
def options_file(hive_options: Mapping[str, str]) -> Iterator[Path]:
    """A properties file that only this user can read, gone when the block ends."""
    descriptor, name = tempfile.mkstemp(prefix="millrace-", suffix=".conf")  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="latin-1", errors="backslashreplace") as out:
            out.writelines(f"{key} {_escaped(value)}\n" for key, value in hive_options.items())
        yield Path(name)
    finally:
        Path(name).unlink()


def _escaped(value: str) -> str:
    """As Java reads properties."""
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
