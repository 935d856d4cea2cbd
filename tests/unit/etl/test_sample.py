"""Rows of files without Spark: which are read, which are refused, and what a large file's sample is."""

import json
from pathlib import Path

import pandas as pd
import pytest

from etl.sources.detection import detect_dialect
from etl.sources.dialect import DialectOptions
from etl.sources.pandas_values import to_ids, to_numbers, to_strptime, to_times
from etl.sources.sample import Sample, sample_rows
from etl.sources.times import TimeFormat


def sampled(path: Path, max_rows: int = 1000, **options: object) -> Sample:
    return sample_rows(path, detect_dialect(path, DialectOptions(**options), ["a"]), max_rows)  # type: ignore[arg-type]


def test_rows_have_the_numbers_of_their_lines_and_bad_ones_their_reason(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(b'a,b\n1,x\n\n2,"y, ""z"""\n3\n4,5,6\n7,"open\n,,\na,b\n8,\n\xff,9\n')
    sample = sampled(file, encoding="utf-8")
    assert sample.frame.to_dict("index") == {
        2: {"a": "1", "b": "x"},
        4: {"a": "2", "b": 'y, "z"'},
        10: {"a": "8", "b": None},
    }
    assert [(row.line_number, row.reason) for row in sample.refused] == [
        (5, "missing_cells"),
        (6, "extra_cells"),
        (7, "bad_quotes"),
        (11, "invalid_utf8"),
    ]
    assert (sample.num_rows, sample.is_whole) == (7, True)


def test_a_quoted_cell_may_go_on_in_the_next_lines(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text('a,b\n1,"x\ny"\n2,z\n')
    assert sampled(file).frame.to_dict("index") == {2: {"a": "1", "b": "x\ny"}, 4: {"a": "2", "b": "z"}}


def test_a_sample_of_a_large_file_is_from_all_over_it(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("a,b\n" + "".join(f"{number},{number:0200}\n" for number in range(20_000)))
    sample = sampled(file, 3000)
    numbers = sample.frame["a"].astype(int)
    assert not sample.is_whole
    assert 3000 <= len(numbers) <= 6000
    # A line's number is its place in the file, wherever the sample begins.
    assert (numbers + 2 == sample.frame.index).all()
    assert numbers.max() > 15_000
    assert sample.num_rows == pytest.approx(20_000, rel=0.01)


def test_json_lines_are_flat_texts(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    rows = [{"a": 1, "user": {"id": "u1", "age": None}}, {"a": True, "tags": ["x"], "user": {"id": ""}}]
    file.write_text("\n".join([*map(json.dumps, rows), '{"a": 1, "a": 2}', "[1]", "{"]))
    sample = sampled(file)
    assert sample.frame.to_dict("list") == {
        "a": ["1", "true"],
        "user.id": ["u1", None],
        "user.age": [None, None],
        "tags": [None, '["x"]'],
    }
    assert [row.reason for row in sample.refused] == ["duplicate_key", "not_json", "not_json"]


def test_parquet_is_as_text_files_have_it(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    at = pd.to_datetime(["2026-01-02 03:04:05"] * 2, utc=True).astype("datetime64[ms, UTC]")
    pd.DataFrame({"id": [12.0, None], "at": at, "yes": [True, False], "x": [0.5, 2.0]}).to_parquet(file)
    assert sampled(file).frame.to_dict("list") == {
        "id": ["12", None],
        "at": ["2026-01-02T03:04:05.000000Z"] * 2,
        "yes": ["true", "false"],
        "x": ["0.5", "2"],
    }


def test_values_are_read_as_the_ingest_does() -> None:
    texts = pd.Series([" 1,5 ", "1.234,5", "x", "NULL", None, "1e400"], dtype=object)
    assert to_numbers(texts, ",").tolist()[:2] == [1.5, 1234.5]
    assert to_numbers(texts, ",").isna().tolist() == [False, False, True, True, True, True]
    assert to_ids(texts).tolist()[3:5] == [None, None]


@pytest.mark.parametrize(
    ("pattern", "text", "utc"),
    [
        ("s", "1700000000", "2023-11-14 22:13:20"),
        ("ms", "1700000000500", "2023-11-14 22:13:20.5"),
        ("s", "1700000000500", None),  # the year 55,000
        ("s", "-5", None),
        ("iso", "2026-05-01", "2026-04-30 22:00"),
        ("iso", "2026-05-01 8:30", "2026-05-01 06:30"),
        ("iso", "2026-05-01T08:30:00,25Z", "2026-05-01 08:30:00.25"),
        ("iso", "2026-05-01 08:30:00 UTC", "2026-05-01 08:30"),
        ("iso", "2026-05-01 08:30:00 +02", "2026-05-01 06:30"),
        ("iso", "2026-05-01 08:30 +02:00", "2026-05-01 06:30"),
        ("iso", "2026-05-01T08:30z", "2026-05-01 08:30"),
        ("iso", "2026-13-01", None),
        ("d.M.yyyy H:mm", "1.5.2026 8:05", "2026-05-01 06:05"),
        ("M/d/yyyy h:mm:ss a", "11/12/2019 2:14:46 PM", "2019-11-12 13:14:46"),
        ("d-MMM-yyyy", "01-Jan-1995", "1994-12-31 23:00"),
        ("yyyy/M/d'T'H:mm:ss[.SSSSSS]", "2026/5/1T8:00:00.5", "2026-05-01 06:00:00.5"),
        ("yyMMddHH", "14102113", "2014-10-21 11:00"),
        ("d.M.yyyy", "5/1/2026", None),
    ],
)
def test_times(pattern: str, text: str, utc: str | None) -> None:
    (time,) = to_times(pd.Series([text], dtype=object), TimeFormat(pattern, "Europe/Berlin"))
    assert (None if pd.isna(time) else time) == (None if utc is None else pd.Timestamp(utc, tz="UTC"))


def test_a_missing_text_is_no_time_and_literals_stay() -> None:
    assert to_times(pd.Series([None, "0"], dtype=object), TimeFormat("s", "UTC")).isna().tolist() == [True, False]
    assert to_strptime("yyyy'T'HH") == "%YT%H"
