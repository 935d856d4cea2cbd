"""Files in any layout through Spark: the same cells as a csv reader's, each refused line with its place."""

import csv
import gzip
import io
import json
import random
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from conf import UserError
from etl.sources.compressed import unpacked_lines
from etl.sources.detection import detect_dialect, sample_columns
from etl.sources.dialect import Dialect, DialectOptions
from etl.sources.lines import with_line_numbers
from etl.sources.pandas_values import to_ids, to_numbers, to_times
from etl.sources.rows import SourceRows, read_rows
from etl.sources.times import TimeFormat, detect_time_format, parse_time_format, read_time
from etl.sources.values import is_damaged_id, to_id, to_list, to_number

CELLS = [
    "",
    " x ",
    "a,b",
    'say "x"',
    '"',
    "two\nlines",
    "a\r\nb",
    "a;b|c\td",
    "魔兽世界的人物",
    "0012",
    "\\",
    "NULL",
    "'q'",
    "#",
]


def read_table(spark: SparkSession, path: Path, dialect: Dialect, *, is_multiline: bool = True) -> list[list[str]]:
    rows = read_rows(spark, [str(path)], dialect, is_multiline=is_multiline)
    cells = [F.coalesce(rows.cell(name), F.lit("")) for name in dialect.names]
    collected = rows.frame.orderBy("block", "id").select("fault", F.array(*cells).alias("cells")).collect()
    assert [row["fault"] for row in collected] == [None] * len(collected)
    return [row["cells"] for row in collected]


@pytest.mark.parametrize(
    ("encoding", "options"),
    [
        ("utf-8", {"delimiter": ","}),
        ("utf-8-sig", {"delimiter": ";", "quoting": csv.QUOTE_ALL}),
        ("gb18030", {"delimiter": "|", "lineterminator": "\n"}),
        ("utf-16", {"delimiter": "\t"}),
        ("utf-8", {"delimiter": ",", "doublequote": False, "escapechar": "\\"}),
        ("utf-8", {"delimiter": ",", "lineterminator": "\r", "quotechar": "'"}),
    ],
)
def test_tables_written_by_csv_are_read_back(
    spark: SparkSession, tmp_path: Path, encoding: str, options: dict[str, str]
) -> None:
    draw = random.Random(3)
    cells = [cell for cell in CELLS if options.get("lineterminator") != "\r" or not {"\r", "\n"} & set(cell)]
    table = [[f"r{n}", *draw.choices(cells, k=3)] for n in range(200)]
    out = io.StringIO()
    csv.writer(out, **options).writerows([["id", "b c", "101", "x.y"], *table])  # type: ignore[arg-type]
    path = tmp_path / "table.csv"
    path.write_bytes(out.getvalue().encode(encoding))
    dialect = detect_dialect(path, DialectOptions(quote=options.get("quotechar")), ["id"])
    assert dialect.names == ("id", "b c", "101", "x.y")
    assert read_table(spark, path, dialect) == table


def test_a_cell_of_a_million_quotes_takes_no_stack(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "quotes.csv"
    path.write_text('a,b\n1,"' + '""' * 1_000_000 + '"\n')
    assert read_table(spark, path, detect_dialect(path, DialectOptions()))[0][1] == '"' * 1_000_000


def faults(rows: SourceRows) -> dict[int, str]:
    numbered = with_line_numbers(rows.lines, rows.frame.where("fault is not null"))
    return {row["line_number"]: row["fault"] for row in numbered.collect()}


def test_refused_lines_have_their_numbers_and_take_no_others_with_them(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    lines = [
        b"a,b",
        b"1,x",
        b"2",
        b"3,y,z",
        b'4,"open',
        b"5,ok",
        b'6,"a "quote" inside"',
        b"7,\xff",
        b"",
        b",,",
        b"a,b",
        b'8,"two',
        b'lines"',
        b"9,end",
    ]
    path.write_bytes(b"\n".join(lines))
    dialect = detect_dialect(path, DialectOptions(encoding="utf-8", names=("a", "b")))
    for is_multiline in (False, True):
        rows = read_rows(spark, [str(path)], dialect, is_multiline=is_multiline)
        expected = {3: "missing_cells", 4: "extra_cells", 5: "bad_quotes", 7: "bad_quotes", 8: "invalid_utf8"}
        if not is_multiline:
            expected |= {12: "bad_quotes", 13: "missing_cells"}
        assert faults(rows) == expected
        valid = [row[0] for row in rows.frame.where("fault is null").orderBy("id").select(rows.cell("a")).collect()]
        assert valid == (["1", "5", "8", "9"] if is_multiline else ["1", "5", "9"])


def test_packed_files_have_the_same_rows_and_line_numbers(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa

    text = "id,name\n" + "".join(f"{n},{'é' * (n % 50)}x\n" for n in range(5000)) + "5000\n"
    (tmp_path / "f.csv.gz").write_bytes(gzip.compress(text.encode()))
    with pa.output_stream(str(tmp_path / "f.csv.zst"), compression="zstd") as out:
        out.write(text.encode())
    with zipfile.ZipFile(tmp_path / "f.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("f.csv", text)
    for name in ("f.csv.gz", "f.csv.zst", "f.zip"):
        rows = read_rows(spark, [str(tmp_path / name)], detect_dialect(tmp_path / name, DialectOptions()))
        assert rows.frame.count() == 5001
        assert faults(rows) == {5002: "missing_cells"}
        assert rows.frame.where("fault is null").agg(F.sum(rows.cell("id").cast("int"))).collect()[0][0] == 12_497_500


def test_lines_of_a_zip_are_whole_whatever_the_size_of_a_chunk(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "f.zip", "w") as archive:
        archive.writestr("f.csv", "aé\nb\n\nlast")
    for size in range(1, 12):
        chunks = list(unpacked_lines(str(tmp_path / "f.zip"), b"\n", size))
        assert b"\n".join(line for _, lines in chunks for line in lines).decode() == "aé\nb\n\nlast"
        assert next(number for number, lines in chunks if lines) == 0


def test_json_lines_are_read_strictly_and_by_path(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    lines = [
        {"user": {"id": 2**70}, "price": "12.50", "tags": ["a", "b c"], "ok": True},
        {"user": {"id": "x.1"}, "a.b": 3},
    ]
    bad = ["{'user': 1}", '{"user": 1} {}', '{"user": 1, "user": 2}', "[1]", "7"]
    path.write_text("\n".join([*map(json.dumps, lines), *bad]))
    dialect = detect_dialect(path, DialectOptions())
    rows = read_rows(spark, [str(path)], dialect)
    assert faults(rows) == {3: "not_json", 4: "not_json", 5: "duplicate_key", 6: "not_json", 7: "not_json"}
    names = ["user.id", "price", "tags", "ok", "a.b"]
    valid = rows.frame.where("fault is null").orderBy("id").select(*[rows.cell(name) for name in names]).collect()
    assert [tuple(row) for row in valid] == [
        (str(2**70), "12.50", '["a","b c"]', "true", None),
        ("x.1", None, None, None, "3"),
    ]


def test_typed_columns_of_parquet_become_the_text_of_a_file(spark: SparkSession, tmp_path: Path) -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, 600_000, tzinfo=UTC)
    frame = pd.DataFrame(
        {"id": [2**62, 1], "at": [at, at], "tags": [["a", "b"], None], "x.y": [1.5, None], "ok": [True, False]}
    )
    frame["at"] = frame["at"].astype("datetime64[us, UTC]")
    frame["ns"] = pd.Series([1_767_323_045_600_000_000, 1]).astype("datetime64[ns]")
    frame.to_parquet(tmp_path / "f.parquet", version="2.6")
    dialect = detect_dialect(tmp_path / "f.parquet", DialectOptions())
    rows = read_rows(spark, [str(tmp_path / "f.parquet")], dialect)
    first = (
        rows.frame.orderBy("id")
        .select(*[rows.cell(name) for name in ("id", "at", "tags", "x.y", "ok", "ns")])
        .collect()[0]
    )
    assert tuple(first) == (
        str(2**62),
        "2026-01-02T03:04:05.600000Z",
        '["a","b"]',
        "1.5",
        "true",
        "1767323045600000000",
    )


def test_doubles_and_odd_names_of_parquet_are_read_as_they_are_meant(spark: SparkSession, tmp_path: Path) -> None:
    # pandas has doubles where integers are missing; nanoseconds, with a zone too, are integers to Spark.
    frame = pd.DataFrame({"id": [123456789.0, None, 1e16, 2.5], "a`b": [1, 2, 3, 4]})
    frame["ns"] = pd.Series([1_767_323_045_600_000_000] * 4).astype("datetime64[ns, America/New_York]")
    frame.to_parquet(tmp_path / "f.parquet", version="2.6")
    dialect = detect_dialect(tmp_path / "f.parquet", DialectOptions())
    assert sample_columns(tmp_path / "f.parquet", dialect, ["ns"])["ns"][0] == "1767323045600000000"
    rows = read_rows(spark, [str(tmp_path / "f.parquet")], dialect)
    read = rows.frame.orderBy(rows.cell("a`b")).select(rows.cell("id"), is_damaged_id(rows.cell("id"))).collect()
    assert [tuple(row) for row in read] == [("123456789", False), (None, False), ("1.0E16", True), ("2.5", False)]


def test_thousands_of_columns_are_one_map(spark: SparkSession, tmp_path: Path) -> None:
    names = [f"c{n}" for n in range(2000)]
    path = tmp_path / "f.csv"
    path.write_text(",".join(names) + "\n" + '"x, y",,' + ",".join(map(str, range(2, 2000))) + "\n")
    rows = read_rows(spark, [str(path)], detect_dialect(path, DialectOptions(), ["c0"]))
    few, many = rows.frame.select(rows.cells(names[:3]), rows.cells(names)).collect()[0]
    assert few == {"c0": "x, y", "c2": "2"}
    assert many == few | {f"c{n}": str(n) for n in range(3, 2000)}


def test_ids_that_stand_for_none_are_none(spark: SparkSession) -> None:
    # Else all visitors without a name would be one user.
    texts = ["NULL", "\\N", "nan", "NaN", "None", "NA", "N/A", "<NA>", " ", "Nan Goldin", "0", "-1", "nana"]
    frame = spark.createDataFrame([(n, text) for n, text in enumerate(texts)], "n int, text string").orderBy("n")
    ids = [row[0] for row in frame.select(to_id(F.col("text"))).collect()]
    assert ids == [*[None] * 9, "Nan Goldin", "0", "-1", "nana"]


@pytest.mark.parametrize(
    ("texts", "pattern", "expected"),
    [
        (["881250949"], "s", "1997-12-04 15:55:49"),
        (["1772500000.25", "1e9"], "s", "2026-03-03 01:06:40.25"),
        (["1772500000123"], "ms", "2026-03-03 01:06:40.123"),
        (["1772500000123456"], "us", "2026-03-03 01:06:40.123456"),
        (["1772500000123456789"], "ns", "2026-03-03 01:06:40.123456"),
        (["2019-10-01 00:00:00 UTC"], "iso", "2019-10-01 00:00:00"),
        (["2019-11-24 00:00:17.004101+00:00"], "iso", "2019-11-24 00:00:17.004101"),
        (["2019-11-24T01:00:17+0100"], "iso", "2019-11-24 00:00:17"),
        (["2026-01-07 10:00:00", "2026-07-07"], "iso", "2026-01-07 09:00:00"),
        (["2026-01-07 10:00:00,5"], "iso", "2026-01-07 09:00:00.5"),
        (["11/12/2019 2:14:46 PM"], "M/d/yyyy h:mm:ss a", "2019-11-12 13:14:46"),
        (["13/2/2019 8:05", "1/2/2019 8:05"], "d/M/yyyy H:mm", "2019-02-13 07:05:00"),
        (["1.2.2019"], "d.M.yyyy", "2019-01-31 23:00:00"),
        (["2019/1/31 00:30"], "yyyy/M/d H:mm", "2019-01-30 23:30:00"),
        (["20190131"], "yyyyMMdd", "2019-01-30 23:00:00"),
        (["20190131003000"], "yyyyMMddHHmmss", "2019-01-30 23:30:00"),
        (["01-Jan-1995", "12-Feb-1995"], "d-MMM-yyyy", "1994-12-31 23:00:00"),
        (["01 Jan 1995 8:05"], "d MMM yyyy H:mm", "1995-01-01 07:05:00"),
    ],
)
def test_times_are_read_in_the_format_that_the_column_has(
    spark: SparkSession, texts: list[str], pattern: str, expected: str
) -> None:
    detected = detect_time_format("f.csv: at", texts, "Europe/Berlin")
    assert detected.pattern == pattern
    # Beside it what the same column must refuse.
    others = ["", "x", "99999999999999999999", "2101-01-01", "-1", "NaN", "1e400", "31/31/2019"]
    frame = spark.createDataFrame([(n, text) for n, text in enumerate([texts[0], *others])], "n int, text string")
    read = frame.orderBy("n").select(read_time(F.col("text"), detected).cast("string")).collect()
    assert [row[0] for row in read] == [expected, *[None] * len(others)]


def test_a_time_that_cannot_be_told_is_asked_for() -> None:
    for texts, message in [
        (["1/2/2019"], "may have the day or the month first"),
        (["14102100", "14102101"], "would be 1970-06-13 in seconds"),
        (["yesterday"], "can't tell the format of 'yesterday'"),
        ([" "], "no times among the first rows"),
    ]:
        with pytest.raises(UserError, match=message):
            detect_time_format("f.csv: at", texts, "UTC")


def test_a_given_pattern_is_used(spark: SparkSession) -> None:
    given = TimeFormat(parse_time_format("yyMMddHH"), "UTC")
    row = spark.range(1).select(read_time(F.lit("14102101"), given).cast("string")).collect()[0]
    assert row[0] == "2014-10-21 01:00:00"


def test_numbers_and_lists_keep_what_they_say(spark: SparkSession) -> None:
    numbers = ["12.50", " 7 ", "1e3", "-0.5", "+4", ".5", "5.", "NaN", "Infinity", "1d", "1,5", "1.234,5", ".", ""]
    frame = spark.createDataFrame([(n, text) for n, text in enumerate(numbers)], "n int, text string").orderBy("n")
    read = [tuple(row) for row in frame.select(to_number(F.col("text")), to_number(F.col("text"), ",")).collect()]
    assert read == [
        (12.5, 12.5), (7.0, 7.0), (1000.0, 1000.0), (-0.5, -0.5), (4.0, 4.0), (0.5, 0.5), (5.0, 5.0), (None, None),
        (None, None), (None, None), (None, 1.5), (None, 1234.5), (None, None), (None, None),
    ]  # fmt: skip
    lists = {
        "Action|Crime": ["Action", "Crime"],
        "['a', 'b c']": ["a", "b c"],
        '["a", "b, c"]': ["a", "b, c"],
        "News & Magazines": ["News & Magazines"],
        "[]": None,
        " | ": None,
        "[1, 2]": ["1", "2"],
        "[draft": ["[draft"],
    }
    frame = spark.createDataFrame([(text,) for text in lists], "text string")
    assert {row[0]: row[1] for row in frame.select("text", to_list(F.col("text"))).collect()} == lists


ODD_TIMES = [
    "2026-05-01",
    "2026-05-01 8:30",
    "2026-05-01T08:30:00,25Z",
    "2026-05-01 08:30:00 UTC",
    "2026-05-01 08:30:00 +02",
    "2026-05-01 08:30 +02",
    "2026-05-01 08:30:00z",
    "2026-05-01T08:30+0200",
    "2026-05-01T08:30Z",
    "2026-05-01 8:30 z",
    "2026-05-01 08:30 UTC",
    "2026-13-01",
    "1969-12-31",
    "2100-01-01",
    "x",
    None,
]
ODD_TEXTS = [
    " 1.5 ",
    "+4",
    ".5",
    "5.",
    "1e3",
    "1e400",
    "NaN",
    "0x1p3",
    "1d",
    "1,5",
    "1.234,5",
    "NULL",
    "\\N",
    " n/a\u00a0",
    "",
    "ab",
    None,
]


def test_a_sample_reads_values_as_spark_does(spark: SparkSession) -> None:
    times = spark.createDataFrame(list(enumerate(ODD_TIMES)), "n int, text string")
    for zone in ("UTC", "Europe/Berlin", "America/New_York"):
        form = TimeFormat("iso", zone)
        rows = times.orderBy("n").select(F.unix_micros(read_time(F.col("text"), form))).collect()
        sampled = to_times(pd.Series(ODD_TIMES, dtype=object), form)
        assert [row[0] for row in rows] == [None if pd.isna(time) else time.value // 1000 for time in sampled]
        assert [row[0] is None for row in rows][: len(ODD_TIMES) - 5] == [False] * (len(ODD_TIMES) - 5)
    texts = spark.createDataFrame(list(enumerate(ODD_TEXTS)), "n int, text string")
    for decimal in (".", ","):
        values = to_number(F.col("text"), decimal).alias("number"), to_id(F.col("text")).alias("id")
        read = texts.orderBy("n").select(*values).collect()
        sample = pd.Series(ODD_TEXTS, dtype=object)
        numbers = [None if pd.isna(number) else number for number in to_numbers(sample, decimal)]
        assert [(row.number, row.id) for row in read] == list(zip(numbers, to_ids(sample), strict=True))


def test_a_date_alone_is_midnight_by_the_clock_of_its_zone(spark: SparkSession) -> None:
    # Its day stands where an offset such as +01 would.
    (row,) = (
        spark.range(1)
        .select(read_time(F.lit("2026-05-01"), TimeFormat("iso", "Europe/Berlin")).cast("string"))
        .collect()
    )
    assert row[0] == "2026-04-30 22:00:00"
