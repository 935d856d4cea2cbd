"""Spark's options for a configuration, and the private file that passes them to a JVM.

A file, because every user of the machine can read the command lines of processes, and the options hold passwords.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from sysconfig import get_path

from conf import Config, Paths
from conf.machine.network import LOOPBACK, NetworkSettings
from conf.site.loading import submitted_site
from etl import compat
from etl.metastore.connection import hive_options
from etl.settings import SparkSettings

# Spark's classes as Java stores them once parsed (class data sharing, JEP 350): mapped, they save a quarter of a small
# job's CPU time. `make setup` writes the file; a JVM that it does not fit ignores it.
CLASS_ARCHIVE = Path(get_path("data")) / "spark-classes.jsa"

# Most code of a day runs some thousand times: compiling it as well as Java can takes more CPU time than running it.
# Tenfold the usual counts; what a large day repeats by the million reaches them within moments.
COMPILE_WELL_LATER = (
    "-XX:Tier4InvocationThreshold=50000 -XX:Tier4MinInvocationThreshold=6000 "
    "-XX:Tier4CompileThreshold=150000 -XX:Tier4BackEdgeThreshold=400000"
)

# With one compiler Java reserves 48 MB for compiled code and compiles nothing more once they are full, which a day
# reaches after some minutes.
COMPILE_LITTLE = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m"

JAVA_OPTIONS = (
    "-XX:MetaspaceSize=256m",  # Spark's classes take 200 MB; on the way there from 21 MB Java collects the whole heap
    "-XX:-DontCompileHugeMethods",  # else the long method that Spark generates for a wide row stays interpreted
    "-Xss16m",  # a log line full of escapes recurses deep in Java's regular expressions
    "-Duser.language=en",  # else a Turkish machine lowers I to a letter of its own
)

# The escapes of Java's properties files.
_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def spark_options(config: Config) -> dict[str, str]:
    """Every option that Millrace sets, with `spark.extra` last, which so overrides the others.

    Raises UserError when the metastore is on PostgreSQL and its JDBC driver is not installed.
    """
    paths, settings = config.get(Paths), config.get(SparkSettings)
    executor_java = [*JAVA_OPTIONS, COMPILE_LITTLE if settings.compile_little else COMPILE_WELL_LATER]
    options = {
        "spark.master": settings.master,
        "spark.driver.memory": settings.driver_memory,
        "spark.driver.extraJavaOptions": " ".join([*_driver_java_options(paths), *executor_java]),
        "spark.executor.extraJavaOptions": " ".join(executor_java),
        # The UI opens a port that anybody on the machine can read, and a progress bar mixes with a command's output.
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        # Else a day's partition would depend on where the job runs.
        "spark.sql.session.timeZone": "UTC",
        # Files of other systems come in any encoding (GB18030, Big5); what is no text in it becomes U+FFFD.
        "spark.sql.legacy.javaCharsets": "true",
        "spark.sql.legacy.codingErrorAction": "true",
        # Pandas wrote times in nanoseconds, which Spark refuses: they are read as numbers.
        "spark.sql.legacy.parquet.nanosAsLong": "true",
        "spark.sql.shuffle.partitions": str(settings.shuffle_partitions),
        "spark.sql.warehouse.dir": paths.warehouse,
        # Else a task for each of the folders of a load of many days.
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": str(4 * settings.shuffle_partitions),
        # Spark's 4 MB for a file makes a task of each dozen of small files: days of some lines are far smaller.
        "spark.sql.files.openCostInBytes": "524288",
        # Hive's database takes long for a condition with an alternative for each of many days; a span is one.
        "spark.sql.hive.metastorePartitionPruningInSetThreshold": "20",
        # Listed at every new partition, for statistics that Spark does not read.
        "spark.hadoop.hive.stats.autogather": "false",
        # Spark's default, INT96, is read by few others and has no statistics to skip row groups by.
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        # Hive's default, /tmp/hive, belongs to the machine's first user.
        "spark.hadoop.hive.exec.scratchdir": str(paths.hive_scratch),
        # A folder of each session, which a kill leaves: where `vacuum` finds it, and not in the machine's /tmp.
        "spark.hadoop.hive.downloaded.resources.dir": str(paths.hive_scratch / "${hive.session.id}_resources"),
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        # Else each call of `F.col` and its like tells Java its line of Python, which our messages leave out.
        "spark.python.sql.dataFrameDebugging.enabled": "false",
        # The first `lower` of a JVM else loads a library of all languages' rules, for two seconds of CPU time.
        "spark.sql.icu.caseMappings.enabled": "false",
        # What is persisted is read once or twice: trying three ways to compress each column takes longer than that.
        "spark.sql.inMemoryColumnarStorage.compressed": "false",
        # Each query's plan as text for the UI, which is off; and the last thousand queries.
        "spark.sql.ui.explainMode": "simple",
        "spark.sql.ui.retainedExecutions": "100",
        # Nobody reads a folder before it is checked and swapped in: its files need no second rename and no _SUCCESS.
        "spark.hadoop.mapreduce.fileoutputcommitter.algorithm.version": "2",
        "spark.hadoop.mapreduce.fileoutputcommitter.marksuccessfuljobs": "false",
        **{f"spark.hadoop.{key}": value for key, value in hive_options(config).items()},
    }
    if jars := ":".join(settings.installed_jdbc_jars):
        options |= {"spark.driver.extraClassPath": jars, "spark.executor.extraClassPath": jars}
    if not settings.is_local:
        # Executors have the site in the archive of the code.
        options |= {f"spark.executorEnv.{name}": value for name, value in submitted_site().items()}
    if settings.compile_little:
        # Generated code is Java source, which is compiled in every JVM anew; interpreted expressions start at once.
        options |= {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}
        # Each sort, join and aggregation of a task begins with a page of a sixteenth of its share of the heap, 32 MB of
        # 2 GB on two cores: the pages of a wide plan filled the heap while the data had some kilobytes.
        options["spark.buffer.pageSize"] = "1m"
    if settings.is_local and config.get(NetworkSettings).listen == "loopback":
        # Else Spark binds to the host name's address: a laptop's changes with its network, and others could connect.
        options["spark.driver.host"] = options["spark.driver.bindAddress"] = LOOPBACK
    return options | settings.extra


def _driver_java_options(paths: Paths) -> list[str]:
    package = files("etl")
    with as_file(package / "log4j2.properties") as log4j:
        log4j_url = log4j.as_uri()
    # Of classes that plan queries, compile Spark's generated source and ask the metastore. They run for each query, not
    # for each row: compiling them with Java's slower, better compiler (C2) took a quarter of a day's CPU time.
    directives = Path(str(package / "jit_directives.json"))
    jit_option = _quoted(f"-XX:CompilerDirectivesFile={directives}") if directives.is_file() else ""  # else: in a zip
    return [
        _quoted(f"-XX:SharedArchiveFile={CLASS_ARCHIVE}") if CLASS_ARCHIVE.exists() else "",
        f"-Dlog4j2.configurationFile={log4j_url}",
        f"-XX:+UnlockDiagnosticVMOptions {jit_option}" if jit_option else "",
        _quoted(f"-Dderby.stream.error.file={paths.metastore / 'derby.log'}"),
        "-XX:+UseParallelGC",  # for throughput: nobody waits for a pause of a batch job
        # Messages of the JVM itself go to stderr: stdout is for a command's results.
        "-XX:+DisplayVMOutputToStderr -Xlog:disable -Xlog:all=warning:stderr -Xlog:cds*=off:stderr",
    ]


def _quoted(option: str) -> str:
    """One option of Java for Spark's launcher, which splits options at blanks: a home may have one in its name."""
    escaped = option.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def spark_program(name: str) -> Path:
    """Path of a program in the `bin` folder of the installed PySpark: spark-submit, beeline …; it need not exist."""
    return compat.spark_home() / "bin" / name


@contextmanager
def options_file(options: Mapping[str, str]) -> Iterator[Path]:
    """A properties file that only this user can read, deleted when the block ends."""
    descriptor, name = tempfile.mkstemp(prefix="millrace-", suffix=".conf")  # mode 0600
    try:
        # Java reads properties as Latin-1, with other characters as \\uXXXX.
        with os.fdopen(descriptor, "w", encoding="latin-1", errors="backslashreplace") as out:
            out.writelines(f"{key} {value.translate(_ESCAPES)}\n" for key, value in options.items())
        yield Path(name)
    finally:
        Path(name).unlink()
