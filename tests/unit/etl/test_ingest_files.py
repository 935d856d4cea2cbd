"""What an ingest makes of files before Spark starts: columns, times, days, and what it asks for."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pytest
from support import run_front_door

from conf import UsageError, UserError, load
from etl.ingest.columns import map_columns, parse_mapping
from etl.ingest.interactions import action_of
from etl.ingest.requests import LayoutOptions, examine_all
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
        ("--ratings numbers.tsv", 1, "numbers.tsv has no header (utf-8, separator tab, quotes \", no header): name its columns"),
        ("--ratings r.csv --set ingest.max_refused=2", 1, "ingest.max_refused = 2"),
        ("--ratings folder", 1, "folder has no files"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_before_spark_starts(tmp_path: Path, options: str, code: int, message: str) -> None:
    write(tmp_path / "r.csv", "user,item\n1,2\n")
    write(tmp_path / "numbers.tsv", "196\t242\t3\t881250949\n")
    (tmp_path / "folder").mkdir()
    words = [
        str(tmp_path / word) if word in ("r.csv", "none.csv", "numbers.tsv", "folder") else word.strip('"')
        for word in options.split(" ")
    ]
    status, out, err = run_front_door("ingest", "interactions", *words, home=tmp_path / "home")
    assert (status, out) == (code, "")
    assert message in err
    assert len(err.strip().splitlines()) == 1
