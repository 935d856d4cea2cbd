"""Permissions of local files are set without a process for each, and are what `chmod` would make of them."""

import os
from pathlib import Path
from types import SimpleNamespace

from pyspark.sql import SparkSession

from etl.local_files import use_java_permissions
from etl.warehouse.files import WarehouseFiles


def test_local_files_have_their_permissions_from_java(spark: SparkSession, tmp_path: Path) -> None:
    jvm = spark._jvm
    assert jvm is not None
    os.chmod(tmp_path, 0o2770)  # of a team: new folders are of its group
    spark.range(3).selectExpr("id", "id as a").write.partitionBy("id").parquet(f"file://{tmp_path}/table")
    folder = tmp_path / "table/id=1"
    (file,) = folder.glob("*.parquet")
    (checksum,) = folder.glob(".*.crc")
    assert [oct(path.stat().st_mode)[-4:] for path in (folder, file, checksum)] == ["2755", "0644", "0644"]

    # As Spark's tasks, Hive and our own calls get it, whatever their configuration.
    path = jvm.org.apache.hadoop.fs.Path(f"file://{tmp_path}/set")
    files = path.getFileSystem(jvm.org.apache.hadoop.conf.Configuration())
    assert files.getClass().getName() == "millrace.LocalFiles"
    # It has the session's options, and so its umask.
    assert files.getConf().get("hive.stats.autogather") == "false"
    WarehouseFiles(spark).make_folders(f"file://{tmp_path}", ["set"])
    for octal, expected in (("700", "2700"), ("755", "2755"), ("1777", "3777")):
        files.setPermission(path, jvm.org.apache.hadoop.fs.permission.FsPermission(octal))
        assert oct((tmp_path / "set").stat().st_mode)[-4:] == expected


def test_a_jvm_without_the_compiler_goes_on_with_chmod() -> None:
    no_class = SimpleNamespace(org=SimpleNamespace(codehaus=SimpleNamespace(janino=SimpleNamespace(SimpleCompiler=0))))
    use_java_permissions(no_class)
