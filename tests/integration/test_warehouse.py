"""Partitions are swapped whole: a failing check, a second write, a kill -9."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from support import ROOT, run_front_door

from conf import Config, Paths, UserError
from conf.atomic import write_atomically
from conf.runs import start_run
from etl.metastore import catalog, swaps
from etl.metastore.swaps import take_back_interrupted
from etl.stage import RowCounts, stage_run
from etl.table import InRange, NotNull, OneOf, Table, columns
from etl.tables import ops
from etl.warehouse.files import WarehouseFiles
from etl.warehouse.quality import QualityError
from etl.warehouse.query import query, rows_of
from etl.warehouse.store import Warehouse
from etl.warehouse.vacuum import remove_session_folders, vacuum, vacuum_all

DAYS = [date(2026, 2, 1), date(2026, 2, 2)]


def table_of(name: str) -> Table:
    return Table(
        name,
        "One row per a",
        columns(("a", "int", "key"), ("b", "string", "x or y")),
        key=("a",),
        checks=(InRange("a", 0, 99), OneOf("b", ("x", "y"))),
    )


@pytest.fixture
def warehouse(spark: SparkSession, config: Config) -> Warehouse:
    return Warehouse(spark, config)


def rows(spark: SparkSession, values: list[tuple[object, ...]]) -> DataFrame:
    return spark.createDataFrame(values, "a int, b string, dt string")


def content(warehouse: Warehouse, table: Table) -> list[tuple[object, ...]]:
    return sorted(tuple(row) for row in warehouse.read(table).collect())


def test_a_write_replaces_the_partitions_of_its_days_and_no_others(warehouse: Warehouse, spark: SparkSession) -> None:
    table = table_of("ads_swap")
    first = rows(spark, [(1, "x", "2026-02-01"), (2, "y", "2026-02-02")])
    assert warehouse.write(table, first, DAYS) == {DAYS[0]: 1, DAYS[1]: 1}
    again = rows(spark, [(3, "x", "2026-02-02"), (4, "x", "2026-02-02")])
    assert warehouse.write(table, again, DAYS[1:]) == {DAYS[1]: 2}
    assert content(warehouse, table) == [(1, "x", "2026-02-01"), (3, "x", "2026-02-02"), (4, "x", "2026-02-02")]
    assert warehouse.write(table, again.where("false"), DAYS[1:]) == {DAYS[1]: 0}
    assert content(warehouse, table) == [(1, "x", "2026-02-01")]
    assert warehouse.has_partition(table, DAYS[1])


def test_a_partition_may_be_made_from_itself(warehouse: Warehouse, spark: SparkSession) -> None:
    table = table_of("ads_self")
    warehouse.write(table, rows(spark, [(1, "x", "2026-02-01")]), DAYS[:1])
    grown = warehouse.read(table, DAYS[:1]).unionByName(rows(spark, [(2, "y", "2026-02-01")]))
    assert warehouse.write(table, grown, DAYS[:1]) == {DAYS[0]: 2}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([(None, "x")], "check 'not null: a' failed for 1 rows (1 without a; a row's key: a)"),
        ([(1, "x"), (1, "y")], "check 'unique: a' failed for 1 rows (a: e.g. 1;"),
        ([(1, "x"), (100, "x"), (-1, "x")], "check '0 <= a <= 99' failed for 2 rows (e.g. "),
        ([(1, "z")], "check 'b in (x, y)' failed for 1 rows (e.g. z; a row's key: a)"),
        ([(1, "z" * 99)], f"failed for 1 rows (e.g. {'z' * 39}…;"),
    ],
)
def test_a_failing_check_keeps_the_old_partition_and_says_why(
    warehouse: Warehouse, spark: SparkSession, bad: list[tuple[object, ...]], message: str
) -> None:
    table = table_of("ads_checked")
    warehouse.write(table, rows(spark, [(7, "x", "2026-02-01")]), DAYS[:1])
    with pytest.raises(QualityError) as refused:
        warehouse.write(table, rows(spark, [(*row, "2026-02-01") for row in bad]), DAYS[:1])
    assert message in str(refused.value)
    assert content(warehouse, table) == [(7, "x", "2026-02-01")]
    folders = list(Path(warehouse.root.removeprefix("file://"), "ads_checked").glob("run-*"))
    assert len([folder for folder in folders if folder.exists()]) >= 1


def test_a_failing_check_tells_nothing_of_the_person_whose_row_it_is(warehouse: Warehouse, spark: SparkSession) -> None:
    table = Table(
        "ads_private",
        "One row per email and day",
        columns(("email", "string", "key"), ("seen", "string", "key"), ("name", "string", "of the person")),
        key=("email", "seen"),
        checks=(NotNull(("name",)),),
    )
    schema = "email string, seen string, name string, dt string"
    person = ("ada@example.org", "2026-01-31 10:00", "Ada Lovelace", "2026-02-01")
    for bad, message in (
        (
            [person, (*person[:2], None, person[3])],
            "'unique: email, seen' failed for 1 rows (email: e.g. ada@example.org;",
        ),
        (
            [(*person[:2], None, person[3])],
            "'not null: name' failed for 1 rows (1 without name; a row's key: email, seen)",
        ),
        (
            [(None, *person[1:])],
            "'not null: email, seen' failed for 1 rows (1 without email; a row's key: email, seen)",
        ),
    ):
        with pytest.raises(QualityError) as refused:
            warehouse.write(table, spark.createDataFrame(bad, schema), DAYS[:1])
        assert message in str(refused.value)
        assert not [text for text in ("Lovelace", "10:00") if text in str(refused.value)]


class LostMetastore:
    """A session whose changes of partitions are refused from the `first` on (from 0), `times` times or for good."""

    def __init__(self, spark: SparkSession, first: int, times: int = 1000) -> None:
        self._spark, self._refused, self._count = spark, range(first, first + times), 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._spark, name)

    def sql(self, statement: str) -> DataFrame:
        if statement.startswith("ALTER TABLE"):
            self.change()
        return self._spark.sql(statement)

    def change(self) -> None:
        self._count += 1
        if self._count - 1 in self._refused:
            raise ConnectionError("the metastore is gone")


@pytest.fixture(autouse=True)
def lost_metastores_refuse_locations(monkeypatch: pytest.MonkeyPatch) -> None:
    set_locations = catalog.set_locations

    def refused(spark: Any, table: str, column: str, locations: dict[str, str]) -> None:
        if isinstance(spark, LostMetastore) and locations:
            spark.change()
        set_locations(spark, table, column, locations)

    monkeypatch.setattr(catalog, "set_locations", refused)


def replace_together(warehouse: Warehouse, tables: tuple[Table, Table], a: int) -> None:
    """Two days of one table and one of the other: (`a`, x) each."""
    with warehouse.whole_or_nothing():
        for table, days in zip(tables, (DAYS, DAYS[:1]), strict=True):
            warehouse.write(table, rows(warehouse.spark, [(a, "x", str(day)) for day in days]), days)


@pytest.mark.parametrize("swaps_before", [1, 2])
def test_an_interrupted_change_of_two_tables_is_taken_back_before_the_next_work(
    spark: SparkSession, config: Config, caplog: pytest.LogCaptureFixture, swaps_before: int
) -> None:
    """The metastore is lost between two swaps, so that nothing can be mended there and then, as after a kill."""
    tables = table_of(f"ads_one_{swaps_before}"), table_of(f"ads_other_{swaps_before}")
    warehouse = Warehouse(spark, config)
    for table in tables:  # the first table's second day is new below
        warehouse.write(table, rows(spark, [(1, "x", "2026-02-01")]), DAYS[:1])
    lost = Warehouse(LostMetastore(spark, swaps_before), config)  # type: ignore[arg-type]
    with pytest.raises(ConnectionError):
        replace_together(lost, tables, 2)
    caplog.clear()
    take_back_interrupted(spark, config)
    assert [content(warehouse, table) for table in tables] == [[(1, "x", "2026-02-01")]] * 2
    names = ", ".join(table.name for table in tables)
    assert f"took back a change of {names} that was interrupted" in caplog.text
    caplog.clear()
    take_back_interrupted(spark, config)
    assert not caplog.records
    replace_together(warehouse, tables, 3)
    assert [len(content(warehouse, table)) for table in tables] == [2, 1]
    assert {row[0] for table in tables for row in content(warehouse, table)} == {3}
    for table in tables:
        assert vacuum(warehouse, table.name, older_than_s=0) >= 1
        assert len(content(warehouse, table)) == len(warehouse.partitions(table))


def test_a_failing_swap_leaves_all_tables_and_days_as_they_were(
    spark: SparkSession, config: Config, warehouse: Warehouse
) -> None:
    tables = table_of("ads_first"), table_of("ads_second")
    replace_together(warehouse, tables, 1)
    before = [content(warehouse, table) for table in tables]
    with pytest.raises(ConnectionError):
        replace_together(Warehouse(LostMetastore(spark, 1, times=1), config), tables, 2)  # type: ignore[arg-type]
    assert [content(warehouse, table) for table in tables] == before
    days = rows(spark, [(3, "x", str(day)) for day in DAYS])
    with pytest.raises(ConnectionError):  # one table: both days in one change
        Warehouse(LostMetastore(spark, 0, times=1), config).write(tables[0], days, DAYS)  # type: ignore[arg-type]
    assert [content(warehouse, table) for table in tables] == before


def test_many_days_are_replaced_and_taken_back_at_once(
    spark: SparkSession, config: Config, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, records = table_of("ads_many"), []
    days = [date(2026, 3, 1) + timedelta(days=n) for n in range(catalog.FEW_PARTITIONS + 2)]

    def replace(writer: Warehouse, a: int, days: list[date]) -> None:
        writer.write(table, rows(spark, [(a, "x", str(day)) for day in days]), days)

    def record(path: Path, text: str) -> None:
        records.append(text)
        write_atomically(path, text)

    replace(warehouse, 1, days[:-1])
    replace(warehouse, 2, days[:-1])
    second = [(2, "x", str(day)) for day in days[:-1]]
    assert content(warehouse, table) == second

    lost = Warehouse(LostMetastore(spark, 1, times=1), config)  # type: ignore[arg-type]
    with pytest.raises(ConnectionError):  # the day that is new, after the others
        replace(lost, 3, days)
    assert content(warehouse, table) == second

    monkeypatch.setattr(swaps, "write_atomically", record)
    replace(warehouse, 4, days)
    assert content(warehouse, table) == [(4, "x", str(day)) for day in days]
    config.get(Paths).swaps.write_text(records[-1])  # as after a kill before its end
    take_back_interrupted(spark, config)
    assert content(warehouse, table) == second
    assert warehouse.partitions(table) == [str(day) for day in days[:-1]]


def test_what_was_replaced_after_an_interrupted_change_is_not_taken_back(
    spark: SparkSession, config: Config, warehouse: Warehouse
) -> None:
    tables = table_of("ads_left"), table_of("ads_right")
    replace_together(warehouse, tables, 1)
    with pytest.raises(ConnectionError):
        replace_together(Warehouse(LostMetastore(spark, 1), config), tables, 2)  # type: ignore[arg-type]
    warehouse.write(tables[0], rows(spark, [(3, "x", "2026-02-02")]), DAYS[1:])
    take_back_interrupted(spark, config)
    assert content(warehouse, tables[0]) == [(1, "x", "2026-02-01"), (3, "x", "2026-02-02")]
    assert content(warehouse, tables[1]) == [(1, "x", "2026-02-01")]


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


def test_readers_of_an_exported_folder_always_find_one(spark: SparkSession, tmp_path: Path) -> None:
    files, folder, looks, is_over = WarehouseFiles(spark), tmp_path / "dt=2026-02-01", [0, 0], threading.Event()

    def write(number: int) -> Callable[[str], object]:
        def fill(url: str) -> None:
            fresh = Path(url.removeprefix("file://"))
            fresh.mkdir()
            (fresh / "part-0.csv").write_text(str(number))

        return fill

    def look() -> None:
        while not is_over.is_set():
            looks[0] += 1
            looks[1] += not folder.exists() or not list(folder.iterdir())

    files.replace_folder(f"file://{folder}", write(0))
    reader = threading.Thread(target=look)
    reader.start()
    for number in range(1, 60):
        files.replace_folder(f"file://{folder}", write(number))
        looked = looks[0]
        while looks[0] < looked + 2:  # a look is over before the next export, as it takes Spark a second
            pass
    is_over.set()
    reader.join()
    assert looks[1] == 0
    assert (folder / "part-0.csv").read_text() == "59"
    assert (tmp_path / f".{folder.name}.old/part-0.csv").read_text() == "58"  # for who has opened it


def test_an_export_that_fails_after_a_kill_leaves_the_last_good_one(spark: SparkSession, tmp_path: Path) -> None:
    """Where two folders can't be exchanged, a kill between two renames leaves the last good one as `.NAME.old`."""
    left = tmp_path / ".dt=1.old"
    left.mkdir()
    (left / "part-0.csv").write_text("good")

    def fail(url: str) -> None:
        Path(url.removeprefix("file://")).mkdir()
        raise RuntimeError

    with pytest.raises(RuntimeError):
        WarehouseFiles(spark).replace_folder(f"file://{tmp_path}/dt=1", fail)
    assert (tmp_path / "dt=1/part-0.csv").read_text() == "good"


def test_a_stage_leaves_its_counts_in_ops_run_whether_it_ends_well_or_not(warehouse: Warehouse) -> None:
    with stage_run(warehouse, "good", DAYS[:1]) as counts:
        counts[DAYS[0]] = RowCounts(rows_in=5, rows_out=3, rows_invalid=1, rows_quarantined=1, rows_other_date=9)
    with pytest.raises(UserError), stage_run(warehouse, "bad", DAYS[:1]):
        raise UserError("no such thing\nsecond line")
    with (
        pytest.raises(RuntimeError, match="5 rows in, 4 accounted for"),
        stage_run(warehouse, "leaky", DAYS[:1]) as counts,
    ):
        counts[DAYS[0]] = RowCounts(rows_in=5, rows_out=4)
    found = {row["stage"]: row for row in warehouse.read(ops.run, DAYS[:1]).collect()}
    assert (found["good"]["status"], found["good"]["rows_out"], found["good"]["rows_other_date"]) == ("done", 3, 9)
    assert (found["bad"]["status"], found["bad"]["error"]) == ("failed", "no such thing")
    assert found["leaky"]["status"] == "failed"


def test_a_table_whose_columns_changed_is_refused(warehouse: Warehouse, spark: SparkSession) -> None:
    warehouse.write(table_of("ads_changed"), rows(spark, [(1, "x", "2026-02-01")]), DAYS[:1])
    changed = Table("ads_changed", "One row per a", columns(("a", "int", "key"), ("c", "string", "new")))
    with pytest.raises(UserError, match="has columns"):
        warehouse.read(changed)


def test_sql_mistakes_are_one_line(spark: SparkSession, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="ads_never_written is empty: no stage has written it yet"):
        query(spark, "select * from ads_never_written", ["ads_never_written"])
    with pytest.raises(UserError, match=r"SQL: .*PARSE_SYNTAX_ERROR"):
        query(spark, "selec 1")
    with pytest.raises(UserError, match=r"SQL: .*UNRESOLVED_COLUMN.*`mistyped`"):
        query(spark, "select mistyped from (select 1 as typed)")
    # What only the rows show. PySpark would log each of them as JSON with a Java stack.
    for statement, reason in (
        ("select 1 / 0", "DIVIDE_BY_ZERO"),
        ("select cast(concat('x', id) as int) from range(9)", "CAST_INVALID_INPUT"),
    ):
        with pytest.raises(UserError, match=rf"^SQL: \[{reason}[^\n]*$"):
            list(rows_of(query(spark, statement)))
    assert "java" not in capfd.readouterr().err


def test_rows_of_a_query_are_plain_values(spark: SparkSession) -> None:
    rows = rows_of(query(spark, "select struct(1 as a, array(struct('x' as b)) as c) as s, map('k', 2) as m, 3 as m"))
    assert list(rows) == [({"a": 1, "c": [{"b": "x"}]}, {"k": 2}, 3)]


def test_a_full_scan_is_pruned_to_the_days_asked_for(warehouse: Warehouse, spark: SparkSession) -> None:
    table = table_of("ads_pruned")
    warehouse.write(table, rows(spark, [(1, "x", "2026-02-01"), (2, "x", "2026-02-02")]), DAYS)
    plan = warehouse.read(table, DAYS[:1])._jdf.queryExecution().toString()
    assert "PartitionFilters: [" in plan
    files = warehouse.read(table, DAYS[:1]).select(F.input_file_name()).distinct().collect()
    assert len(files) == 1


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
from etl.metastore import catalog
from etl.session import spark_session
from etl.table import Table, columns
from etl.warehouse.store import Warehouse

def killed_before_the_second(spark, table, column, locations, counts=[]):
    counts.extend([table] if locations else [])
    if len(counts) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    set_locations(spark, table, column, locations)

set_locations, catalog.set_locations = catalog.set_locations, killed_before_the_second
config = load(overrides=[f"paths.home={sys.argv[1]}", "spark.compile_little=true"], environment={})
tables = [Table(name, "One row per a", columns(("a", "int", "key")), key=("a",)) for name in ("ads_one", "ads_two")]
with spark_session(config) as spark:
    warehouse = Warehouse(spark, config)
    for a in (1, 2):  # the first time both partitions are new
        with warehouse.whole_or_nothing():
            for table in tables:
                warehouse.write(table, spark.createDataFrame([(a, "2026-02-01")], "a int, dt string"), [date(2026, 2, 1)])
        print(a, "is there", flush=True)
"""


@pytest.mark.slow
def test_kill_9_between_the_swaps_of_two_tables_changes_none(tmp_path: Path, millrace: object) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_BETWEEN_SWAPS, str(tmp_path / "home")],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert (killed.returncode, killed.stdout) == (-signal.SIGKILL, "1 is there\n"), killed.stderr[-2000:]
    assert (tmp_path / "home/swaps.json").exists()
    statement = "select ads_one.a, ads_two.a as b from ads_one cross join ads_two"
    done = millrace("sql", statement, "--format", "json")  # type: ignore[operator]
    assert (done.returncode, done.stdout.strip()) == (0, '[{"a": 1, "b": 1}]'), done.stderr
    assert "took back a change of ads_one, ads_two that was interrupted" in " ".join(done.stderr.split())
    assert not (tmp_path / "home/swaps.json").exists()


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
    for option, removed in (([], 0), (["--older-than-h", "0"], 1)):
        code, out, err = run_front_door("warehouse", "vacuum", *option, home=home)
        assert code == 0, err
        assert json.loads(out)["unfinished_runs"] == removed
    assert not run.folder.exists()
    assert runs.exists()
