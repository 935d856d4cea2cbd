"""When etl/compat.py may go: private parts of PySpark that have a public successor."""

import pyspark
from pyspark import SparkContext
from pyspark.sql import SparkSession

from etl import compat


def test_the_private_parts_were_checked_against_the_installed_pyspark() -> None:
    """On an upgrade: try each function of etl/compat.py, replace what has a public way now, then raise the version."""
    assert pyspark.__version__ == compat.PYSPARK_VERSION


def test_pyspark_has_no_public_successor_of_the_private_parts() -> None:
    """Fails when one of the obvious names appears: then use it and delete the function."""
    for name in ("jvm", "hadoopConfiguration", "sessionState", "externalCatalog", "gateway"):
        assert not hasattr(SparkSession, name)
        assert not hasattr(SparkContext, name)
