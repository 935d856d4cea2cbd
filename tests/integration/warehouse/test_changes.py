"""Changes of several partitions that are interrupted: by a metastore that is lost, by kill -9."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from data.partitions import DAYS, content, rows, table_of
from engines.postgres import postgres_server
from pyspark.sql import SparkSession
from support import ROOT, Millrace

from conf import Config, Paths, UserError
from etl.metastore import catalog, swaps
from etl.metastore.partition_rows import FEW_PARTITIONS, partition_rows
from etl.metastore.swaps import complete_interrupted
from etl.stage import stage_run
from etl.table import Table
from etl.tables import ops
from etl.warehouse.store import Warehouse
from etl.warehouse.vacuum import vacuum


@pytest.fixture
def warehouse(spark: SparkSession, config: Config) -> Warehouse:
    return Warehouse(spark, config)


class LostMetastore:
    """A session whose changes of partitions are refused from the `first` on (from 0), `times` times or for good."""

    def __init__(self, spark: SparkSession, first: int, times: int = 1000) -> None:
        self._spark, self._refused, self._count = spark, range(first, first + times), 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._spark, name)

    def change(self) -> None:
        self._count += 1
        if self._count - 1 in self._refused:
            raise ConnectionError("the metastore is gone")


@pytest.fixture(autouse=True)
def lost_metastores_refuse_locations(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(change: Any, spark: Any, table: str, column: str, locations: dict[str, str]) -> None:
        if isinstance(spark, LostMetastore) and locations:
            spark.change()
        change(spark, table, column, locations)

    for name in ("set_locations", "add_partitions"):
        monkeypatch.setattr(catalog, name, partial(refused, getattr(catalog, name)))


def replace_together(warehouse: Warehouse, tables: tuple[Table, Table], a: int) -> None:
    """Two days of one table and one of the other: (`a`, x) each."""
    with warehouse.whole_or_nothing():
        for table, days in zip(tables, (DAYS, DAYS[:1]), strict=True):
            warehouse.write(table, rows(warehouse.spark, [(a, "x", str(day)) for day in days]), days)


def interrupt(spark: SparkSession, config: Config, tables: tuple[Table, Table], swaps_before: int, a: int) -> None:
    """Replace both tables' days by a session that loses the metastore between two swaps, for good: as after a kill."""
    lost = Warehouse(LostMetastore(spark, swaps_before), config)  # type: ignore[arg-type]
    with pytest.raises(ConnectionError):
        replace_together(lost, tables, a)


@pytest.mark.parametrize("swaps_before", [0, 1, 2])
def test_an_interrupted_change_of_two_tables_is_completed_before_the_next_work(
    spark: SparkSession, config: Config, caplog: pytest.LogCaptureFixture, swaps_before: int
) -> None:
    tables = table_of(f"ads_one_{swaps_before}"), table_of(f"ads_other_{swaps_before}")
    warehouse = Warehouse(spark, config)
    for table in tables:  # the first table's second day is new below
        warehouse.write(table, rows(spark, [(1, "x", "2026-02-01")]), DAYS[:1])
    interrupt(spark, config, tables, swaps_before, 2)
    for refused in (0, 1)[: 3 - swaps_before]:  # the recovery is interrupted, too: before its first swap, after it
        with pytest.raises(ConnectionError):
            complete_interrupted(LostMetastore(spark, refused), config)  # type: ignore[arg-type]
    for table in tables:  # the folders that are not swapped in yet stay, also with a vacuum of everything
        vacuum(warehouse, table.name, older_than_s=0)
    caplog.clear()
    complete_interrupted(spark, config)
    days = [(2, "x", str(day)) for day in DAYS]
    assert [content(warehouse, table) for table in tables] == [days, days[:1]]
    names = ", ".join(table.name for table in tables)
    assert f"completed a change of {names} that was interrupted" in caplog.text
    caplog.clear()
    complete_interrupted(spark, config)
    assert not caplog.records
    replace_together(warehouse, tables, 3)
    for table in tables:
        assert vacuum(warehouse, table.name, older_than_s=0) >= 1
        assert {row[0] for row in content(warehouse, table)} == {3}
        assert len(content(warehouse, table)) == len(warehouse.partitions(table))


def test_a_swap_that_is_refused_once_is_done_again(spark: SparkSession, config: Config, warehouse: Warehouse) -> None:
    tables = table_of("ads_first"), table_of("ads_second")
    replace_together(warehouse, tables, 1)
    replace_together(Warehouse(LostMetastore(spark, 1, times=1), config), tables, 2)  # type: ignore[arg-type]
    assert {row[0] for table in tables for row in content(warehouse, table)} == {2}
    days = rows(spark, [(3, "x", str(day)) for day in DAYS])
    # One table: both days in one change.
    Warehouse(LostMetastore(spark, 0, times=1), config).write(tables[0], days, DAYS)  # type: ignore[arg-type]
    assert content(warehouse, tables[0]) == [(3, "x", str(day)) for day in DAYS]
    assert not config.get(Paths).swaps.exists()


def test_without_a_journal_nothing_changes(
    spark: SparkSession, config: Config, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, before and after the journal has its name."""
    tables = table_of("ads_left_out"), table_of("ads_right_out")
    replace_together(warehouse, tables, 1)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for name in ("write_atomically", "sync_folder"):
        with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
            patch.setattr(swaps, "_sync_files", lambda _: None)
            patch.setattr(swaps, name, refuse)
            replace_together(warehouse, tables, 2)
        assert not config.get(Paths).swaps.exists()
        assert {row[0] for table in tables for row in content(warehouse, table)} == {1}


def test_many_days_are_replaced_and_completed_at_once(
    spark: SparkSession, config: Config, warehouse: Warehouse
) -> None:
    table = table_of("ads_many")
    days = [date(2026, 3, 1) + timedelta(days=n) for n in range(FEW_PARTITIONS + 2)]

    def replace(writer: Warehouse, a: int, days: list[date]) -> None:
        writer.write(table, rows(spark, [(a, "x", str(day)) for day in days]), days)

    replace(warehouse, 1, days[:-1])
    replace(warehouse, 2, days[:-1])
    assert content(warehouse, table) == [(2, "x", str(day)) for day in days[:-1]]
    lost = Warehouse(LostMetastore(spark, 1), config)  # type: ignore[arg-type]
    with pytest.raises(ConnectionError):  # the day that is new, after the others
        replace(lost, 3, days)
    assert len(content(warehouse, table)) == len(days) - 1
    complete_interrupted(spark, config)
    assert content(warehouse, table) == [(3, "x", str(day)) for day in days]


def test_partitions_by_sql_and_by_hives_client_go_together(
    spark: SparkSession, config: Config, warehouse: Warehouse
) -> None:
    table, days = table_of("ads_by_both"), [date(2031, 2, n) for n in range(1, 5)]
    assert partition_rows(spark) is not None
    assert partition_rows(spark, ["a:b"]) is None  # Hive would write it a%3Ab

    def write(day: date, a: int) -> None:
        warehouse.write(table, rows(spark, [(a, "x", str(day))]), [day])

    for day in days[:2]:
        write(day, 1)
    spark.sql(f"alter table {table.name} add partition (dt = '{days[2]}') partition (dt = 'a:b')")  # ids of Hive's own
    write(days[3], 1)
    write(days[2], 2)
    spark.sql(f"alter table {table.name} drop partition (dt = '{days[0]}'), partition (dt = 'a:b')")
    assert content(warehouse, table) == [(1, "x", str(days[1])), (1, "x", str(days[3])), (2, "x", str(days[2]))]
    assert [row[0] for row in spark.sql(f"show partitions {table.name}").collect()] == [f"dt={day}" for day in days[1:]]
    with pytest.raises(UserError, match=r"ads_by_both has no partition dt=2031-02-01 any more"):
        catalog.set_locations(spark, table.name, "dt", {str(day): "file:/elsewhere" for day in days})
    assert len(content(warehouse, table)) == 3
    spark.sql(f"drop table {table.name}")


def test_what_was_replaced_after_an_interrupted_change_stays(
    spark: SparkSession, config: Config, warehouse: Warehouse
) -> None:
    tables = table_of("ads_left"), table_of("ads_right")
    replace_together(warehouse, tables, 1)
    interrupt(spark, config, tables, 1, 2)
    warehouse.write(tables[1], rows(spark, [(3, "x", "2026-02-01")]), DAYS[:1])
    complete_interrupted(spark, config)
    assert content(warehouse, tables[0]) == [(2, "x", str(day)) for day in DAYS]
    assert content(warehouse, tables[1]) == [(3, "x", "2026-02-01")]


def test_the_next_change_of_the_same_session_completes_the_interrupted_one_first(
    spark: SparkSession, config: Config, warehouse: Warehouse
) -> None:
    tables = table_of("ads_before"), table_of("ads_after")
    interrupt(spark, config, tables, 0, 1)  # all partitions are new
    replace_together(warehouse, tables[::-1], 2)
    assert content(warehouse, tables[1]) == [(2, "x", str(day)) for day in DAYS]
    assert content(warehouse, tables[0]) == [(1, "x", "2026-02-02"), (2, "x", "2026-02-01")]


def test_a_folder_of_an_interrupted_change_that_is_gone_is_one_line_and_changes_nothing(
    spark: SparkSession, config: Config, warehouse: Warehouse
) -> None:
    tables, journal = (table_of("ads_here"), table_of("ads_gone")), config.get(Paths).swaps
    replace_together(warehouse, tables, 1)
    interrupt(spark, config, tables, 0, 2)
    folder = Path(json.loads(journal.read_text())["swaps"][-1]["new"].removeprefix("file://"))
    folder.rename(folder.with_name("elsewhere"))
    try:
        with pytest.raises(UserError, match=r"^an interrupted change of ads_gone can't be completed, [^\n]* is gone"):
            complete_interrupted(spark, config)
        assert {row[0] for table in tables for row in content(warehouse, table)} == {1}
    finally:
        folder.with_name("elsewhere").rename(folder)
    complete_interrupted(spark, config)
    assert {row[0] for table in tables for row in content(warehouse, table)} == {2}


def test_a_journal_of_an_earlier_release_is_completed_and_an_edited_one_refused(
    spark: SparkSession, config: Config, warehouse: Warehouse
) -> None:
    tables, journal = (table_of("ads_older"), table_of("ads_newer")), config.get(Paths).swaps
    replace_together(warehouse, tables, 1)
    interrupt(spark, config, tables, 0, 2)
    swaps_alone = json.loads(journal.read_text())["swaps"]
    for text in ("", "[1]", '{"swaps": [{"table": "ads_older"}]}'):
        journal.write_text(text)
        with pytest.raises(UserError, match=r"swaps\.json is no journal"):
            complete_interrupted(spark, config)
    journal.write_text(json.dumps(swaps_alone))
    complete_interrupted(spark, config)
    assert {row[0] for table in tables for row in content(warehouse, table)} == {2}


def test_ops_run_says_that_a_stage_was_interrupted_and_its_change_completed(
    spark: SparkSession, config: Config, warehouse: Warehouse
) -> None:
    tables = table_of("ads_run_one"), table_of("ads_run_two")
    warehouse.ensure(ops.run)
    lost = Warehouse(LostMetastore(spark, 1), config)  # type: ignore[arg-type]
    with pytest.raises(ConnectionError), stage_run(lost, "killed", DAYS):
        replace_together(lost, tables, 2)
    journal = config.get(Paths).swaps.read_text()
    complete_interrupted(spark, config)
    config.get(Paths).swaps.write_text(journal)  # killed after the row, and before its journal was removed
    complete_interrupted(spark, config)
    runs = warehouse.read(ops.run, DAYS).where("stage = 'killed' and status = 'interrupted'").collect()
    assert sorted(row["dt"] for row in runs) == [str(day) for day in DAYS]
    assert {(row["rows_in"], row["rows_out"]) for row in runs} == {(0, 0)}
    assert "a later command completed the change" in runs[0]["error"]
    with stage_run(warehouse, "killed", DAYS):  # again: an end of its own
        replace_together(warehouse, tables, 3)
    assert warehouse.read(ops.run, DAYS).where("stage = 'killed' and status = 'done'").count() == len(DAYS)


WRITE = """
import sys, time
from datetime import date
from pathlib import Path
from conf import Paths, load
from etl.session import spark_session
from etl.tables import ads
from etl.warehouse.store import Warehouse

config = load(overrides=[f"paths.home={sys.argv[1]}", "spark.compile_little=true"], environment={})
marker, views = sys.argv[2], [int(text) for text in sys.argv[3:]]
with spark_session(config) as spark:
    def slow(row):
        if marker != "-" and row.pvs == views[-1]:
            Path(marker).touch()
            time.sleep(600)
        return row
    house = Warehouse(spark, config)
    house.ensure(ads.pv_hourly)
    print([row["pvs"] for row in house.read(ads.pv_hourly).collect()], flush=True)
    for pvs in views:
        rows = spark.createDataFrame([("02", "01", "07", pvs, 0, "20260201")], "month string, day string, hour string, pvs long, pvs_human long, datestr string")
        rows = spark.createDataFrame(rows.rdd.map(slow), rows.schema)
        house.write(ads.pv_hourly, rows, [date(2026, 2, 1)])
        print([row["pvs"] for row in house.read(ads.pv_hourly).collect()], flush=True)
"""


def run_writer(home: Path, marker: str, *views: int) -> "subprocess.Popen[str]":
    """Writes a partition with each of `views`, and says before and after each what it holds; the last waits if marked."""
    command = [sys.executable, "-c", WRITE, str(home), marker, *map(str, views)]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def test_kill_9_during_a_write_leaves_the_old_partition_and_a_rerun_repairs(tmp_path: Path) -> None:
    marker = tmp_path / "writing"
    killed = run_writer(tmp_path / "home", str(marker), 1, 2)
    try:
        deadline = time.monotonic() + 300
        while not marker.exists() and time.monotonic() < deadline and killed.poll() is None:
            time.sleep(0.1)
        assert marker.exists(), killed.communicate(timeout=5)
    finally:
        os.kill(killed.pid, signal.SIGKILL)  # the Python process alone: its JVM has to notice by itself
        killed.wait(timeout=30)
    assert killed.stdout is not None
    assert killed.stdout.read().splitlines() == ["[]", "[1]"]
    again = run_writer(tmp_path / "home", "-", 2)
    out, err = again.communicate(timeout=400)
    assert out.splitlines() == ["[1]", "[2]"], err


KILLED_BETWEEN_SWAPS = """
import os, signal, sys
from datetime import date
from conf import load
from etl.metastore import swaps
from etl.session import spark_session
from etl.table import Table, columns
from etl.warehouse.store import Warehouse

def killed_after_the_first_table(spark, planned):
    tables = [of_table for _, of_table in swaps._by_table(planned)]
    if len(tables) < 2:
        return point_to_new(spark, planned)
    point_to_new(spark, tables[0])
    os.kill(os.getpid(), signal.SIGKILL)

config = load(overrides=[f"paths.home={sys.argv[1]}", "spark.compile_little=true"])
tables = [Table(name, "One row per a", columns(("a", "int", "key")), key=("a",)) for name in ("ads_1", "ads_2", "ads_3")]
point_to_new = swaps._point_to_new
swaps._point_to_new = killed_after_the_first_table
with spark_session(config) as spark:  # the second time, the recovery is killed here
    warehouse = Warehouse(spark, config)
    for a in (1, 2):
        swaps._point_to_new = point_to_new if a == 1 else killed_after_the_first_table
        with warehouse.whole_or_nothing():
            for table in tables:
                warehouse.write(table, spark.createDataFrame([(a, "2026-02-01")], "a int, dt string"), [date(2026, 2, 1)])
        print(a, "is there", flush=True)
"""


def check_kills_between_swaps(millrace: Millrace, **metastore: str) -> None:
    """A write is killed after the first of three tables, the recovery after the second; the next command has all new."""
    for printed in ("1 is there\n", ""):
        killed = subprocess.run(
            [sys.executable, "-c", KILLED_BETWEEN_SWAPS, str(millrace.home)],
            cwd=ROOT, env=os.environ | metastore, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert (killed.returncode, killed.stdout) == (-signal.SIGKILL, printed), killed.stderr[-2000:]
        assert (millrace.home / "swaps.json").exists()
    statement = "select * from ads_1 union all select * from ads_2 union all select * from ads_3"
    done = millrace("sql", statement, "--format", "json", **metastore)
    rows = [{"a": 2, "dt": "2026-02-01"}] * 3
    assert (done.returncode, json.loads(done.stdout)) == (0, rows), done.stderr
    assert "completed a change of ads_1, ads_2, ads_3 that was interrupted" in " ".join(done.stderr.split())
    assert not (millrace.home / "swaps.json").exists()


@pytest.mark.slow
def test_kill_9_between_the_swaps_of_three_tables_changes_all(millrace: Millrace) -> None:
    check_kills_between_swaps(millrace)


@pytest.mark.slow
@pytest.mark.wide
def test_kill_9_between_the_swaps_of_three_tables_changes_all_on_postgres(millrace: Millrace) -> None:
    with postgres_server() as server:
        metastore = server.as_metastore
        assert millrace("warehouse", "init", **metastore).returncode == 0
        check_kills_between_swaps(millrace, **metastore)
