"""What vacuum removes, and what it leaves because somebody may read it."""

import json
import os
import time
from pathlib import Path

import pytest
from data.partitions import DAYS, content, rows, table_of
from pyspark.sql import SparkSession
from support import run_front_door

from conf import Config, Paths
from conf.runs import start_run
from etl.stage import stage_run
from etl.tables import ops
from etl.warehouse.store import Warehouse
from etl.warehouse.vacuum import remove_session_folders, vacuum, vacuum_all


@pytest.fixture
def warehouse(spark: SparkSession, config: Config) -> Warehouse:
    return Warehouse(spark, config)


def test_vacuum_removes_what_no_partition_points_at(warehouse: Warehouse, spark: SparkSession) -> None:
    table = table_of("ads_vacuum")
    for value in (1, 2, 3):
        warehouse.write(table, rows(spark, [(value, "x", "2026-02-01")]), DAYS[:1])
    assert vacuum(warehouse, table.name, older_than_s=3600) == 0
    assert vacuum(warehouse, table.name, older_than_s=0) == 2
    spark.catalog.refreshTable(table.name)
    assert content(warehouse, table) == [(3, "x", "2026-02-01")]


def test_vacuum_removes_folders_of_tables_that_imports_name(warehouse: Warehouse, spark: SparkSession) -> None:
    table = table_of("ods_vacuum_import")
    for value in (1, 2):
        warehouse.write(table, rows(spark, [(value, "x", "2026-02-01")]), DAYS[:1])
    assert vacuum_all(warehouse, older_than_s=0) >= 1
    assert len(list(Path(warehouse.root.removeprefix("file://"), table.name).glob("run-*"))) == 1
    assert content(warehouse, table) == [(2, "x", "2026-02-01")]


def test_vacuum_removes_the_row_of_a_stage_that_was_killed_before_its_rename(warehouse: Warehouse) -> None:
    with stage_run(warehouse, "whole", DAYS[:1]):
        pass
    folder = Path(warehouse.root.removeprefix("file://"), ops.run.name, f"dt={DAYS[0]}")
    whole = sorted(folder.glob("*.parquet"))
    (folder / ".killed.parquet").touch()
    vacuum_all(warehouse, older_than_s=3600)
    assert (folder / ".killed.parquet").exists()
    vacuum_all(warehouse, older_than_s=0)
    assert not (folder / ".killed.parquet").exists()
    assert sorted(folder.glob("*.parquet")) == whole


def test_vacuum_counts_from_the_replacement_and_not_from_the_writing(warehouse: Warehouse, spark: SparkSession) -> None:
    """A query that has planned before a folder was replaced reads it for as long as was given to vacuum."""
    table = table_of("ads_vacuum_age")
    warehouse.write(table, rows(spark, [(1, "x", "2026-02-01")]), DAYS[:1])
    (old,) = Path(warehouse.root.removeprefix("file://"), table.name).glob("run-*")
    two_days_ago = time.time() - 2 * 86400
    os.utime(old, (two_days_ago, two_days_ago))
    planned = spark.read.parquet(f"file://{old}/dt=2026-02-01")  # lists the files now, and reads them later
    warehouse.write(table, rows(spark, [(2, "x", "2026-02-01")]), DAYS[:1])
    os.utime(old, (two_days_ago, two_days_ago))
    assert vacuum(warehouse, table.name, older_than_s=86400) == 0
    assert [row["a"] for row in planned.collect()] == [1]
    os.utime(old / ".replaced", (two_days_ago, two_days_ago))
    assert vacuum(warehouse, table.name, older_than_s=86400) == 1
    assert not old.exists()
    assert content(warehouse, table) == [(2, "x", "2026-02-01")]


def test_vacuum_gives_a_folder_that_nobody_noted_its_time_from_the_first_look(
    warehouse: Warehouse, spark: SparkSession
) -> None:
    """A kill between swap and note leaves such a folder, and a slow writer's is not swapped in yet."""
    table = table_of("ads_vacuum_kill")
    warehouse.write(table, rows(spark, [(1, "x", "2026-02-01")]), DAYS[:1])
    stray = Path(warehouse.root.removeprefix("file://"), table.name, "run-20200101T000000-aaaaaa")
    stray.mkdir()
    os.utime(stray, (0, 0))
    assert vacuum(warehouse, table.name, older_than_s=3600) == 0
    os.utime(stray / ".replaced", (0, 0))
    assert vacuum(warehouse, table.name, older_than_s=3600) == 1
    assert not stray.exists()


def test_vacuum_removes_the_folders_of_killed_sessions(tmp_path: Path) -> None:
    for name in ("old_resources", "young_resources", "root"):
        (tmp_path / name).mkdir()
    (tmp_path / "old_resources/library.jar").touch()
    os.utime(tmp_path / "old_resources", (0, 0))
    assert remove_session_folders(tmp_path, older_than_s=3600) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"young_resources", "root"}


def test_vacuum_counts_the_folders_of_killed_runs(spark: SparkSession, config: Config) -> None:
    """The command, on the open session; with the age that it has by default a fresh folder stays."""
    runs = config.get(Paths).runs
    with pytest.raises(RuntimeError), start_run(config, "fm", DAYS[0]) as run:
        raise RuntimeError
    home = config.get(Paths).root
    for option, is_removed in (([], False), (["--older-than-h", "0"], True)):
        code, out, err = run_front_door("warehouse", "vacuum", *option, home=home)
        assert code == 0, err
        assert (json.loads(out)["unfinished_runs"] > 0) is is_removed
        assert run.folder.exists() is not is_removed
    assert runs.exists()
