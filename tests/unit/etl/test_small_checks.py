"""Checks of small partitions by DuckDB: they pass what every check passes, and nothing else."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl.table import InRange, MinRows, NotNull, OneOf, References, Table, columns
from etl.warehouse.small.checks import count_if_sound

ITEM = Table("item", "One row per item", columns(("item", "string", "")), key=("item",))
# Columns with the names that the query uses itself.
ACT = Table(
    "act",
    "One row per act",
    columns(("file", "bigint", ""), ("kind", "string", ""), ("rows", "double", ""), ("item", "string", "")),
    key=("file",),
    checks=(NotNull(("kind",)), OneOf("kind", ("a", "it's")), InRange("rows", 0), References("item", ITEM, "item")),
)
GOOD = [{"file": 1, "kind": "a", "rows": 0.5, "item": "x"}, {"file": 2, "kind": "it's", "rows": None, "item": None}]


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, str]:
    """The partitions of ITEM, in a folder with signs that patterns and SQL would take for their own."""
    for day, items in (("2031-01-01", ["x"]), ("2031-01-02", ["y"])):
        write(tmp_path / "it's [1]" / f"dt={day}", [{"item": item} for item in items])
    return {day: f"file://{tmp_path}/it's [1]/dt={day}" for day in ("2031-01-01", "2031-01-02")}


def write(folder: Path, rows: Sequence[dict[str, Any]], name: str = "part-0.parquet") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    types = {"file": pa.int64(), "rows": pa.float64()}
    schema = pa.schema([(column, types.get(column, pa.string())) for column in rows[0]])
    pq.write_table(pa.Table.from_pylist(list(rows), schema), folder / name)


def count(tmp_path: Path, by_day: dict[str, list[dict[str, Any]]], folders: dict[str, str]) -> dict[str, int] | None:
    for day, rows in by_day.items():
        write(tmp_path / "act" / f"dt={day}", rows)
        write(tmp_path / "act" / f"dt={day}", [*rows, *rows], "_hidden.parquet")
    days = sorted({*by_day, "2031-01-01"})
    return count_if_sound(ACT, f"file://{tmp_path}/act", days, lambda _, values: [folders[value] for value in values])


def test_rows_that_pass_are_counted_by_partition(tmp_path: Path, folders: dict[str, str]) -> None:
    assert count(tmp_path, {"2031-01-01": GOOD, "2031-01-02": GOOD[1:]}, folders) == {"2031-01-01": 2, "2031-01-02": 1}


def test_a_partition_without_files_has_no_rows(tmp_path: Path, folders: dict[str, str]) -> None:
    assert count(tmp_path, {"2031-01-02": GOOD[1:]}, folders) == {"2031-01-01": 0, "2031-01-02": 1}


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": None},
        {"kind": "b"},
        {"rows": -1.0},
        {"rows": math.nan},
        {"file": 2},  # a key that comes twice
        {"file": None},
        {"item": "y"},  # of another day
        {"item": ""},
    ],
)
def test_a_row_that_breaks_a_check_is_left_to_spark(
    tmp_path: Path, folders: dict[str, str], fault: dict[str, Any]
) -> None:
    assert count(tmp_path, {"2031-01-01": [GOOD[1], GOOD[0] | fault]}, folders) is None


def test_too_few_rows_and_files_elsewhere_are_left_to_spark(tmp_path: Path) -> None:
    many = Table("many", "One row per item", columns(("item", "string", "")), checks=(MinRows(2),))
    write(tmp_path / "dt=2031-01-01", [{"item": "x"}])
    assert count_if_sound(many, f"file://{tmp_path}", ["2031-01-01"], lambda *_: []) is None
    assert count_if_sound(ITEM, "hdfs://host/item", ["2031-01-01"], lambda *_: []) is None
