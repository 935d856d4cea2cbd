"""Partitions are replaced whole, checked, pruned and queried; a stage leaves its counts."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from data.partitions import DAYS, content, rows, table_of
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from conf import Config, UserError
from etl.stage import RowCounts, stage_run
from etl.table import NotNull, Table, columns
from etl.tables import ops
from etl.warehouse.files import WarehouseFiles
from etl.warehouse.quality import QualityError
from etl.warehouse.query import query, rows_of
from etl.warehouse.store import Warehouse


@pytest.fixture
def warehouse(spark: SparkSession, config: Config) -> Warehouse:
    return Warehouse(spark, config)


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


def test_files_are_on_the_disk_before_the_metastore_points_at_them(
    warehouse: Warehouse, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The metastore's database is synced at each change: after a power cut it would point at empty files."""
    synced: list[str] = []
    fsync = os.fsync

    def recorded(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    table = table_of("ads_synced")
    for days in (DAYS[:1], DAYS):
        synced.clear()
        warehouse.write(table, rows(spark, [(1, "x", str(day)) for day in days]), days)
        for day in days:
            folder = Path(warehouse.locations(table)[str(day)].removeprefix("file:"))
            files = [str(path) for path in folder.glob("*.parquet")]
            assert files
            assert {*files, str(folder), str(folder.parent), str(folder.parent.parent)} <= set(synced)


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
