"""The session's JVM."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from etl.spark_options import CLASS_ARCHIVE


def test_the_archive_of_spark_classes_fits_and_is_mapped(spark: SparkSession) -> None:
    if not CLASS_ARCHIVE.exists():
        pytest.skip("`make setup` with this Java wrote no archive")
    jvm = spark.sparkContext._jvm.java.lang.ProcessHandle.current().pid()  # type: ignore[union-attr]
    assert str(CLASS_ARCHIVE) in Path(f"/proc/{jvm}/maps").read_text()
