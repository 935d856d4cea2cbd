"""Queries and partitions of small tables, without Spark."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl.table import Table, columns
from etl.warehouse.small import tables
from etl.warehouse.small.checks import STAGED
from etl.warehouse.small.tables import answer, split

VIEWS = Table(
    "views",
    "One row per view",
    columns(("page", "string", ""), ("pvs", "bigint", ""), ("at", "timestamp", ""), ("more", "map<string,string>", "")),
    partition="datestr",
)
SQL = "select datestr, page, sum(pvs) as pvs, row_number() over (order by page) as rank from views \
where datestr between :first and :last group by datestr, page"
TYPES = {"page": "string", "pvs": "bigint", "rank": "int", "datestr": "string"}


@pytest.fixture
def run(tmp_path: Path) -> str:
    """A run's folder, with rows of three days in two staged files, neither of them in order."""
    at = pa.array([0, 1, 2], pa.timestamp("us", "UTC"))
    for number, days in enumerate((["20310102", "20310101", "20310102"], ["20310103", "20310101", "20310102"])):
        rows = {"page": ["/b", None, "/a"], "pvs": [1, 2, 3], "at": at, "more": [None, None, None], "datestr": days}
        (tmp_path / STAGED).mkdir(exist_ok=True)
        schema = pa.schema({"more": pa.map_(pa.string(), pa.string())})
        table = pa.table({**rows, "more": pa.array(rows["more"], schema.field("more").type)})
        pq.write_table(table, tmp_path / STAGED / f"part-{number}.parquet")
    return f"file:{tmp_path}"


def test_staged_rows_become_one_file_for_each_partition(run: str, tmp_path: Path) -> None:
    assert split(VIEWS, run)
    files = sorted(tmp_path.glob("datestr=*/*"))
    assert [file.parent.name for file in files] == ["datestr=20310101", "datestr=20310102", "datestr=20310103"]
    tables = [pq.ParquetFile(file).read() for file in files]
    assert [sorted(table["pvs"].to_pylist()) for table in tables] == [[2, 2], [1, 3, 3], [1]]
    assert all(table.column_names == VIEWS.column_names for table in tables)
    assert tables[0].schema.field("at").type == pa.timestamp("us", "UTC")


def test_many_rows_are_left_to_spark(run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_MAX_ROWS", 5)  # of 6
    assert not split(VIEWS, run)
    assert not list(tmp_path.glob("datestr=*"))


def test_staged_rows_and_partitions_have_the_same_answer_with_nulls_first_as_in_spark(run: str) -> None:
    split(VIEWS, run)
    span = {"first": "20310101", "last": "20310102"}
    partitions = [f"{run}/datestr={day}" for day in ("20310101", "20310102", "20310103")]
    for folders in ([f"{run}/{STAGED}"], partitions):
        rows = answer(SQL, span, {VIEWS: folders}, TYPES)
        assert rows is not None
        assert sorted(rows.to_pylist(), key=lambda row: row["rank"]) == [
            {"page": None, "pvs": 4, "rank": 1, "datestr": "20310101"},
            {"page": "/a", "pvs": 6, "rank": 2, "datestr": "20310102"},
            {"page": "/b", "pvs": 1, "rank": 3, "datestr": "20310102"},
        ]
        assert rows.schema.types == [pa.string(), pa.int64(), pa.int32(), pa.string()]


def test_partitions_without_files_are_empty_and_files_elsewhere_are_left_to_spark(tmp_path: Path) -> None:
    span = {"first": "20310101", "last": "20310102"}
    rows = answer(SQL, span, {VIEWS: [f"file:{tmp_path}/datestr=20310101"]}, TYPES)
    assert rows is not None
    assert (len(rows), rows.column_names) == (0, list(TYPES))
    assert answer(SQL, span, {VIEWS: ["hdfs://host/views"]}, TYPES) is None
    too_large = "select cast(9223372036854775807 as hugeint) + 1 as pvs"  # for its type: Spark says so
    assert answer(too_large, {}, {}, {"pvs": "bigint"}) is None
