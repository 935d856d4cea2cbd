"""The session's JVM, and what it tells of its work."""

import logging
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from engines.listeners import reachable_listeners
from pyspark.sql import SparkSession
from support import ROOT

from conf.console.progress import waiting
from etl.spark_options import CLASS_ARCHIVE
from etl.spark_progress import spark_progress


def jvm_of(spark: SparkSession) -> int:
    return int(spark.sparkContext._jvm.java.lang.ProcessHandle.current().pid())  # type: ignore[union-attr]


def test_the_archive_of_spark_classes_fits_and_is_mapped(spark: SparkSession) -> None:
    if not CLASS_ARCHIVE.exists():
        pytest.skip("`make setup` with this Java wrote no archive")
    assert str(CLASS_ARCHIVE) in Path(f"/proc/{jvm_of(spark)}/maps").read_text()


def test_other_machines_reach_nothing_of_a_session(spark: SparkSession) -> None:
    spark.sparkContext.parallelize(range(2), 2).map(lambda number: number + 1).collect()  # starts Python workers
    # Of this process other tests may have left sockets of other engines.
    assert not reachable_listeners(jvm_of(spark))


def test_long_work_on_spark_says_how_many_tasks_are_done(spark: SparkSession, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "conf.console.progress")

    def slow(number: int) -> int:
        time.sleep(0.5)
        return number

    with waiting("the sum", spark_progress(spark), every_s=0.2):
        assert spark.sparkContext.parallelize(range(8), 8).map(slow).sum() == 28
    assert [
        text
        for text in caplog.messages
        if re.fullmatch(r"the sum: still going on after \d+ s, [1-8] of 8 Spark tasks", text)
    ]


OUT_OF_MEMORY = """
import sys
from conf import Paths, UserError, load
from etl.session import spark_session

overrides = [f"paths.home={sys.argv[1]}", "spark.driver_memory=512m", "spark.compile_little=true"]
config = load(overrides=overrides, environment={})
try:
    with spark_session(config) as spark:
        spark.sql("select sum(length(repeat(cast(id as string), 400000000))) from range(9)").collect()
except UserError as error:
    print(error)
with spark_session(config) as spark:
    print(spark.range(3).count(), "rows")
    spark.sql("show tables").collect()  # opens the client of the metastore
    print([path.name.split("_")[-1] for path in config.get(Paths).hive_scratch.iterdir()][-1])
"""


def test_a_jvm_that_ends_out_of_memory_says_so_and_the_next_session_has_another(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OUT_OF_MEMORY, str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        "Spark ran out of memory (java.lang.OutOfMemoryError: Java heap space):"
        " give it more than spark.driver_memory=512m",
        "3 rows",
        "resources",  # not in the machine's folder for temporary files, where nobody looks for those of killed sessions
    ], done.stderr
