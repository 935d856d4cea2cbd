"""What an ingest makes of files before Spark starts: columns, times, days, and what it asks for."""

from collections.abc import Sequence
from datetime import date, datetime, time
from pathlib import Path

import pytest
from support import run_front_door

from conf import UsageError, UserError, load
from etl.ingest.columns import map_columns, parse_mapping
from etl.ingest.files import FileGroup
from etl.ingest.interactions import action_of
from etl.ingest.requests import LayoutOptions, examine_all
from etl.sources.detection import sample_columns
from etl.sources.times import TimeFormat


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def mapped(names: Sequence[str], role: str = "ratings", **options: str) -> tuple[dict[str, str], tuple[str, ...]]:
    columns = map_columns("f.csv", role, names, options, {})  # type: ignore[arg-type]
    return dict(columns.sources), columns.others


def test_usual_names_are_recognised_in_any_spelling() -> None:
    assert mapped(["CustomerID", "StockCode", "InvoiceDate", "Country"]) == (
        {"user_id": "CustomerID", "item_id": "StockCode", "timestamp": "InvoiceDate"},
        ("Country",),
    )
    assert mapped(["User-ID", "ISBN", "Book-Rating"])[0] == {
        "user_id": "User-ID",
        "item_id": "ISBN",
        "value": "Book-Rating",
    }
    # The likeliest of several: `user_id` before `user`; the other one stays as context.
    assert mapped(["user", "user_id", "item"]) == ({"user_id": "user_id", "item_id": "item"}, ("user",))
    assert mapped(["id", "name", "Year"], role="items")[0] == {"item_id": "id", "title": "name", "release_year": "Year"}


def test_a_named_column_goes_before_usual_names() -> None:
    assert mapped(["a", "user_id", "item_id", "ts"], a="user_id", ts="") == (
        {"user_id": "a", "item_id": "item_id"},
        ("user_id",),
    )


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["userid", "x"], {}, "no column item_id; found userid, x: name it with --column NAME=item_id"),
        (["user", "item"], {"itm": "item_id"}, "no column itm; found user, item; did you mean item?"),
        (
            ["user_id", "User-ID", "item"],
            {},
            "both user_id and User-ID may be user_id: --column User-ID= leaves one out",
        ),
        (["a", "b", "item"], {"a": "user_id", "b": "user_id"}, "both a and b would be user_id"),
    ],
)
def test_columns_that_are_missing_or_named_twice_are_said(
    names: list[str], options: dict[str, str], message: str
) -> None:
    with pytest.raises(UserError) as error:
        mapped(names, **options)
    assert str(error.value) == f"f.csv: {message}"


def test_an_option_that_maps_no_column_is_a_usage_error() -> None:
    assert parse_mapping("ratings", ["a=b=user_id", "x="]) == {"a=b": "user_id", "x": ""}
    for option in ("user_id", "=user_id", "a=users"):
        with pytest.raises(UsageError, match="write NAME_IN_THE_FILE=OURS"):
            parse_mapping("ratings", [option])


def test_files_of_one_layout_are_read_together(tmp_path: Path) -> None:
    config = load(overrides=["site.timezone=Europe/Berlin"], environment={})
    for n in (1, 2):
        write(tmp_path / f"2028-01-0{n}.csv", f"user,item,plays\n{n},2,3\n")
    other = write(tmp_path / "2028-01-03.csv", "user;item;rating;date\n1;2;4,5;2028-01-03 10:00\n")
    groups = examine_all(
        config, {"ratings": [tmp_path, other]}, LayoutOptions(columns={"ratings": ["date="]}, day="name")
    )
    assert [(len(group.files), group.dialect.separator) for group in groups["ratings"]] == [(2, ","), (1, ";")]
    assert [action_of(group) for group in groups["ratings"]] == ["click", "rating"]
    with pytest.raises(UserError, match="--day has no effect; --column date= leaves them out"):
        examine_all(config, {"ratings": [other]}, LayoutOptions(day="2028-01-01"))
    (group,) = examine_all(config, {"ratings": [other]}, LayoutOptions())["ratings"]
    assert dict(group.times) == {"timestamp": TimeFormat("iso", "Europe/Berlin")}
    (named,) = examine_all(config, {"ratings": [other]}, LayoutOptions(timezone="UTC", time_format="yyyy-MM-dd HH:mm"))[
        "ratings"
    ]
    assert dict(named.times) == {"timestamp": TimeFormat("yyyy-MM-dd HH:mm", "UTC")}
    (dated,) = examine_all(config, {"ratings": [tmp_path / "2028-01-01.csv"]}, LayoutOptions(day="2028-05-06"))[
        "ratings"
    ]
    assert dated.day == date(2028, 5, 6)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ("--ratings none.csv", 1, "no such file: "),
        ("--ratings r.csv --format mat", 2, "unknown format 'mat'; choose from auto, recbole, movielens"),
        ("--ratings r.csv", 1, "r.csv: no column timestamp; found user, item: name it with --column NAME=timestamp, or say"),
        ("--ratings r.csv --day name", 1, "r.csv: no date in its name, as 2026-01-07 or 20260107"),
        ("--ratings r.csv --day 7.1.2026", 2, "'7.1.2026' is not a date"),
        ("--ratings r.csv --order-as-time", 2, "--order-as-time needs --day"),
        ("--ratings r.csv --column item=thing", 2, "'item=thing': write NAME_IN_THE_FILE=OURS"),
        ("--ratings r.csv --encoding latin-x", 2, "unknown encoding 'latin-x'; for example utf-8, latin-1"),
        ("--ratings r.csv --timezone Berlin", 2, "--timezone 'Berlin': there is no such zone"),
        ("--ratings r.csv --time-format fast", 2, "'fast' is no format of times: s, ms, us or ns"),
        ("--ratings r.csv --decimal ;", 2, "--decimal ';': it is . or ,"),
        ("--ratings r.csv --quote \"''\"", 2, "one character, or none"),
        ("--ratings numbers.tsv", 1, "numbers.tsv has no header (utf-8, separator tab, quotes \", no header); line 2 is "
         "196\\t242\\t3\\t881250949: name its columns in order, as --skip-lines 1 --header user_id,item_id,value,timestamp"),
        ("--ratings r.csv --set ingest.max_refused=2", 1, "ingest.max_refused = 2"),
        ("--ratings folder", 1, "folder has no files"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_before_spark_starts(tmp_path: Path, options: str, code: int, message: str) -> None:
    write(tmp_path / "r.csv", "user,item\n1,2\n")
    write(tmp_path / "numbers.tsv", "2\n196\t242\t3\t881250949\n186\t302\t3\t891717742\n")
    (tmp_path / "folder").mkdir()
    words = [
        str(tmp_path / word) if word in ("r.csv", "none.csv", "numbers.tsv", "folder") else word.strip('"')
        for word in options.split(" ")
    ]
    status, out, err = run_front_door("ingest", "interactions", *words, home=tmp_path / "home")
    assert (status, out) == (code, "")
    assert message in err
    assert len(err.strip().splitlines()) == 1


def detected(tmp_path: Path, text: str, role: str = "ratings", name: str = "f.csv", **layout: object) -> FileGroup:
    config = load(environment={})
    files = {role: [write(tmp_path / name, text)]}
    (group,) = examine_all(config, files, LayoutOptions(**layout))[role]  # type: ignore
    return group


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("f.csv", "Ratings of May\n\nuser_id,item_id,ts\n1,2,1772500000\n", "line 3 looks like the header: --skip-lines 2"),
        ("f.jsonl", '{"user": {"id": 5}, "item": 1, "ts": 1772500000}\n', "user is a list or an object .* --column user.id=user_id"),
        ("f.jsonl", '{"user": 1, "item": ["a"], "ts": 1772500000}\n', "item is a list or an object .* --column item.id=item_id"),
        ("f.csv", "user,item,ts\n1,2,1.7725E+09\n", "ts: times were rounded by a spreadsheet"),
        ("f.csv", "user,item,ts\n1,N138-1 N64727-0,1772500000\n", "item has lists of items with labels .* Impressions of a site"),
    ],
)  # fmt: skip
def test_what_would_be_read_wrongly_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        detected(tmp_path, text, name=name)


def test_ids_with_a_decimal_point_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # pandas writes them where one is missing; no id of another file equals them.
    detected(tmp_path, "user,item,ts\n123.0,a,1772500000\n,b,1772500000\n")
    assert "user has ids with a decimal point (123.0)" in caplog.text
    caplog.clear()
    # Once, however many files there are.
    write(tmp_path / "g.csv", "user,item,ts\n124.0,a,1772500000\n")
    examine_all(load(environment={}), {"ratings": [tmp_path]}, LayoutOptions())
    assert caplog.text.count("decimal point") == 1
    caplog.clear()
    detected(tmp_path, "user,item,ts\n1.5,a,1772500000\n1.0,b,1772500000\n")
    assert "decimal point" not in caplog.text


def test_dates_of_items_have_their_own_format_or_none(tmp_path: Path) -> None:
    header = "movie id,movie title,release date\n"
    dated = detected(tmp_path, header + "1,Toy Story,01-Jan-1995\n", role="items", time_format="yyMMddHH")
    assert dated.times["published_at"].pattern == "d-MMM-yyyy"
    assert detected(tmp_path, header + "1,Toy Story,\n", role="items").times == {}
    with pytest.raises(
        UserError, match=r"can't tell the format of 'soon': .* or leave it out, --item-column release date="
    ):
        detected(tmp_path, header + "1,Toy Story,soon\n", role="items")


def test_names_of_columns_may_have_blanks_between(tmp_path: Path) -> None:
    group = detected(tmp_path, "1,a,1772500000\n", headers={"ratings": "user_id, item_id, ts"})
    assert dict(group.columns.sources) == {"user_id": "user_id", "item_id": "item_id", "timestamp": "ts"}


def test_files_without_rows_are_left_out_beside_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    empty = write(tmp_path / "2028-01-01.csv", "user,item,plays\n")
    other = write(tmp_path / "2028-01-02.csv", "user,item,plays\n1,2,3\n")
    config, layout = load(environment={}), LayoutOptions(day="name")
    (group,) = examine_all(config, {"ratings": [tmp_path]}, layout)["ratings"]
    assert group.files == (str(other),)
    assert "2028-01-01.csv has a header (user, item, plays) and no rows" in caplog.text
    with pytest.raises(UserError, match="and no rows"):
        examine_all(config, {"ratings": [empty]}, layout)


def test_a_readme_beside_the_data_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("README", "readme.txt", "LICENSE.txt", "SOURCE.md"):
        write(tmp_path / name, "user_id,item_id and more\n")
    data = write(tmp_path / "data.csv", "user,item,ts\n1,2,1772500000\n")
    (group,) = examine_all(load(environment={}), {"ratings": [tmp_path]}, LayoutOptions())["ratings"]
    assert group.files == (str(data),)
    assert caplog.text.count("is left out: by its name it has no rows") == 4


@pytest.mark.parametrize(
    ("header", "options", "warns"),
    [
        ("user,item,ts,click", {}, True),
        ("user,item,ts,plays", {}, True),
        ("user,item,ts,Is Like", {}, True),
        ("user,item,ts,purchase", {}, True),
        ("user,item,ts,rating", {}, False),
        ("user,item,ts,isweekend", {}, False),
        ("user,item,ts,event,label", {}, False),
        ("user,item,ts,click", {"columns": {"ratings": ["click="]}}, False),
    ],
)
def test_rows_that_say_that_nobody_clicked_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, header: str, options: dict[str, object], warns: bool
) -> None:
    row = "1,2,1772500000,view,0\n" if "event" in header else "1,2,1772500000,0\n"
    detected(tmp_path, f"{header}\n{row}", **options)
    assert ("count as clicks all the same" in caplog.text) == warns


def test_parquet_that_spark_cannot_read_is_refused_before(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"user": [1], "item": [2], "ts": [1_772_500_000]}
    tables = {
        "User and user differ in nothing but case": {"User": [1], **columns},
        "at is a time of day": {**columns, "at": [time(1, 2)]},
        "user is a list or an object": {**columns, "user": [{"id": 1}]},
        "has no rows": {name: pa.array([], pa.int64()) for name in columns},
    }
    for message, table in tables.items():
        pq.write_table(pa.table(table), tmp_path / "f.parquet")
        with pytest.raises(UserError, match=message):
            examine_all(load(environment={}), {"ratings": [tmp_path / "f.parquet"]}, LayoutOptions())
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    pq.write_table(pa.table({**columns, "user": ["x"]}), tmp_path / "f.parquet")
    # Spark reads files of one schema together, and calls the second one corrupt.
    assert len(examine_all(load(environment={}), {"ratings": [tmp_path]}, LayoutOptions())["ratings"]) == 2


def test_times_as_older_spark_and_hive_write_them_into_parquet_are_read(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    moments = pa.array([datetime(2026, 3, 2, 8, 30, 5, 250_000)], pa.timestamp("ns"))
    file = tmp_path / "f.parquet"
    pq.write_table(pa.table({"user": [1], "item": [2], "ts": moments}), file, use_deprecated_int96_timestamps=True)
    (group,) = examine_all(load(environment={}), {"ratings": [file]}, LayoutOptions())["ratings"]
    assert group.columns.sources["timestamp"] == "ts"
    (text,) = sample_columns(file, group.dialect, ["ts"])["ts"]
    assert text == "2026-03-02 08:30:05.250000"


@pytest.mark.parametrize(
    ("role", "row", "names"),
    [
        ("ratings", "1::1193::5::978300760", ("user_id", "item_id", "rating", "timestamp")),
        ("items", "1::Toy Story (1995)::Animation|Children's", ("item_id", "title", "genres")),
        ("users", "1::F::1::10::48067", ("user_id", "gender", "age", "occupation", "zip_code")),
    ],
)
def test_movielens_own_files_need_no_format(tmp_path: Path, role: str, row: str, names: tuple[str, ...]) -> None:
    assert detected(tmp_path, f"{row}\n{row.replace('1', '2')}\n", role).dialect.names == names
    config = load(environment={})
    with pytest.raises(UserError, match=r"has no header .* line 1 is 1::x: name its columns in order"):
        examine_all(config, {role: [write(tmp_path / "other.dat", "1::x\n2::y\n")]}, LayoutOptions())  # type: ignore[dict-item]
