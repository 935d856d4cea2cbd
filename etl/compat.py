"""The private parts of PySpark that Millrace uses, all in one file: PySpark 4.3 has no public way to them.

Table locations, external-catalog calls and Hadoop file systems exist only in Spark's JVM; the end of that JVM, which
frees the embedded metastore, is nowhere offered. tests/unit/etl/test_compat.py fails when another PySpark is
installed: look there which of these functions a public one replaces.
"""

import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import subprocess

    from pyspark.sql import SparkSession

PYSPARK_VERSION = "4.3.0"

# py4j asks Java for a name at every use, package by package and, for a short name, in each package that PySpark
# imports; for each that is no class Java looks into all of Spark's jars. PySpark and we use these hundreds of times.
_JVM_NAMES = (
    ("functions",),
    ("PythonUtils",),
    ("org.apache.spark.sql.functions",),
    ("org.apache.spark.sql.classic.SparkSession",),
    ("py4j", "reflection", "TypeUtil"),
    ("scala", "jdk", "javaapi", "CollectionConverters"),
    ("scala", "Option"),
    ("java", "util", "List"),
    ("org", "apache", "hadoop", "fs", "Path"),
)


def spark_home() -> Path:
    """The folder of the installed PySpark, with `bin` and `jars`."""
    spec = find_spec("pyspark")  # finds without importing: `millrace submit` and queries without Spark need no session
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def java_program() -> str | None:
    """The Java that Spark's scripts start: of JAVA_HOME if that is set, else of PATH; None when it is not there."""
    home = os.environ.get("JAVA_HOME")
    return shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")


def is_submitted() -> bool:
    """Whether `spark-submit` started this process, and so has a JVM whose options are fixed."""
    return "PYSPARK_GATEWAY_PORT" in os.environ


def jvm_of(spark: "SparkSession") -> Any:
    """py4j's view of the session's JVM: `jvm.java.util.HashSet()` calls a constructor there."""
    return spark._jvm


def hadoop_configuration(spark: "SparkSession") -> Any:
    """Hadoop's Configuration: every `spark.hadoop.…` option without the prefix, and what the session's own change."""
    # A copy on each call: cheap beside the calls to file systems and databases that it is for.
    session_state = spark._jsparkSession.sessionState()
    return session_state.newHadoopConf()


def submitted_hadoop_configuration(jvm: Any) -> Any:
    """Hadoop's Configuration of the `spark.hadoop.…` options that a JVM without a session was started with."""
    shared = jvm.org.apache.spark.deploy.SparkHadoopUtil.get().conf()
    return jvm.org.apache.hadoop.conf.Configuration(shared)  # a copy: what is set in it stays here


def external_catalog(spark: "SparkSession") -> Any:
    """Spark's ExternalCatalog, its own client of the Hive metastore: table definitions and partition locations."""
    session_state = spark._jsparkSession.sessionState()
    return session_state.catalog().externalCatalog()


def has_persisted(spark: "SparkSession") -> bool:
    """Whether the session has persisted the rows of a query."""
    return not spark._jsparkSession.sharedState().cacheManager().isEmpty()


def forget_table(spark: "SparkSession", table: str) -> None:
    """Let the session's next query of a table ask for its partitions again; `refreshTable` plans a query for that."""
    jvm = jvm_of(spark)
    identifier = jvm.org.apache.spark.sql.catalyst.TableIdentifier(table, jvm.scala.Option.empty())
    spark._jsparkSession.sessionState().catalog().refreshTable(identifier)


def compile_java(jvm: Any, text: str) -> Any:
    """Compile a Java class by the compiler of Spark's generated code; returns the class loader that has it."""
    compiler = jvm.org.codehaus.janino.SimpleCompiler()
    compiler.setParentClassLoader(jvm.java.lang.Thread.currentThread().getContextClassLoader())
    compiler.cook(text)
    return compiler.getClassLoader()


def launch_jvm() -> Any:
    """Start the JVM of this process as PYSPARK_SUBMIT_ARGS says, or connect to that of spark-submit; returns it."""
    from pyspark import SparkContext

    # What SparkContext's constructor does first; a context would already open the metastore.
    SparkContext._ensure_initialized()
    for names in _JVM_NAMES:
        parent = SparkContext._jvm
        for name in names:
            child = getattr(parent, name)
            setattr(parent, name, child)  # from now on an attribute as any other
            parent = child
    return SparkContext._jvm


def current_jvm() -> Any:
    """py4j's view of the JVM that `launch_jvm` started; None before that and after `close_jvm`."""
    from pyspark import SparkContext

    return SparkContext._jvm


def jvm_process() -> "subprocess.Popen[bytes] | None":
    """The process of the JVM; None when there is none, or when spark-submit started it."""
    from pyspark import SparkContext

    return getattr(SparkContext._gateway, "proc", None)


def close_jvm() -> "subprocess.Popen[bytes] | None":
    """Tell the JVM to end, and let the next session start another; returns its process, which is still ending.

    None when there is no JVM, or when spark-submit started it.
    """
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    gateway = SparkContext._gateway
    if gateway is None:
        return None
    process = jvm_process()
    if (context := SparkContext._active_spark_context) is not None:  # its JVM was gone when it was to stop
        context.stop()
        SparkSession._instantiatedSession = SparkSession._activeSession = None
    # spark.stop() leaves the JVM running for the process's life, with Derby open.
    gateway.shutdown()
    SparkContext._gateway = SparkContext._jvm = None
    if process is not None and process.stdin is not None:
        process.stdin.close()  # Spark's gateway server ends when its standard input does
    return process
