"""What is guessed of a column, one guess a test: where it holds, and where it must not."""

from collections.abc import Sequence

import pandas as pd
import pytest

from etl.site.column_roles import guess_role, guess_role_by_values
from etl.site.column_types import buckets_for, depends_on, guess_separator, guess_type, num_distinct_of_all
from etl.site.fields import Field
from etl.site.guesses import (
    guess_action_column,
    guess_click,
    guess_only_action,
    guess_position,
    guess_propensity,
    guess_threshold,
    guess_time,
    guess_value,
    thresholds,
)
from etl.site.happenings import are_links
from etl.site.parts import matching
from etl.site.tables import is_header, spread
from etl.site.words import action_name, entity_of, is_known_afterwards, is_of_one_occasion
from etl.sources.times import TimeFormat

WORDS = ["red", "green", "blue", "grey"]


def column(name: str, values: Sequence[object]) -> Field:
    return Field.of(name, [None if value is None else str(value) for value in values])


def type_of(name: str, values: Sequence[object]) -> str | None:
    field = column(name, values)
    return guess_type(field, field.num_rows).code


@pytest.mark.parametrize(
    ("name", "table", "entity"),
    [
        ("userId", "ratings", "user"),
        ("User-ID", "x", "user"),
        ("CustomerID", "x", "user"),
        ("userid", "x", "user"),
        ("movieId", "x", "item"),
        ("artistID", "x", "item"),
        ("StockCode", "x", "item"),
        ("ISBN", "x", "item"),
        ("id", "artists", "item"),
        ("用户", "x", "user"),
        ("Produkt-Nr", "x", "item"),
        ("id", "customers", "user"),
        ("id", "events", None),
        ("user_feature_0", "x", None),
        ("user-item_affinity_1", "x", None),
        ("Book-Rating", "x", None),
        ("customer_age", "x", None),
        ("name", "artists", None),
        ("user.pseudo_id", "events", "user"),
        ("客户编号", "订单", "user"),
        ("商品编号", "订单", "item"),
        ("商品名称", "订单", None),
    ],
)
def test_whose_id_a_column_has_by_its_name(name: str, table: str, entity: str | None) -> None:
    assert entity_of(name, table) == entity


@pytest.mark.parametrize(
    ("stem", "action"),
    [
        ("purchases", "purchase"),
        ("train-item-views-sample", "view"),
        ("ratings", "rating"),
        ("WatchedMovies", "watch"),
        ("clicks_2026", "click"),
        ("reviewers", None),
        ("data", None),
    ],
)
def test_what_users_did_by_the_name_of_a_file(stem: str, action: str | None) -> None:
    assert action_name(stem) == action


def test_ids_of_one_occasion_and_what_is_known_afterwards_by_name() -> None:
    assert all(map(is_of_one_occasion, ("InvoiceNo", "session_id", "session", "transactionId", "transactionid")))
    assert not any(map(is_of_one_occasion, ("order_count", "visit_length", "item_id")))
    assert all(map(is_known_afterwards, ("review_text", "dwell_time", "converted", "play_time_ms", "useful")))
    assert not any(map(is_known_afterwards, ("click_sequence", "weather", "preview", "play_count", "time_zone")))


@pytest.mark.parametrize(
    ("name", "values", "is_click"),
    [
        ("clicked", [0, 1, 0], True),
        ("label", [-1, 1, 1], True),
        ("Clk", ["true", "false", "true"], True),
        ("bought_it", ["yes", "no", "no"], True),
        ("is_weekend", [0, 1, 0], False),  # no act of users
        ("click", [0, 0, 0], False),
        ("click", [0, 1, 2], False),
        ("click", [0, 1, None], False),
    ],
)
def test_which_column_says_what_was_clicked(name: str, values: Sequence[object], is_click: bool) -> None:
    assert (guess_click([column(name, values)]) is not None) == is_click


def test_a_click_goes_before_what_came_of_it() -> None:
    guess = guess_click([column("purchase", [0, 0, 1]), column("click", [0, 1, 1])])
    assert guess is not None
    assert (guess.value, guess.reason) == ("click", "66.7% of the rows are yes")


def test_times_of_what_happened() -> None:
    seconds = column("timestamp", range(1_700_000_000, 1_700_000_050))
    named = guess_time([column("x", WORDS), column("released", ["2001-01-01"] * 4), seconds])
    assert named == (seconds, TimeFormat("s", "UTC"))
    written = guess_time([column("at", ["2026-01-02 03:04", "2026-01-02 03:05"])])
    assert written is not None
    assert written[1] == TimeFormat("iso", "UTC")


def test_a_time_says_more_than_its_date() -> None:
    day, moment = column("date", [20220408, 20220409]), column("time_ms", [1_649_347_200_123, 1_649_447_200_123])
    assert guess_time([day, moment]) == (moment, TimeFormat("ms", "UTC"))
    assert guess_time([day]) == (day, TimeFormat("yyyyMMdd", "UTC"))
    assert type_of("date", [20220408 + i % 9 for i in range(60)]) is None  # a date, no category of nine


def test_ids_in_the_range_of_times_are_none() -> None:
    ids = column("customer_ref", [541_312_140, 554_748_717, 512_000_000])
    assert guess_time([ids]) is None
    assert guess_time([ids], has_names=False) is not None  # nothing else says what it is
    assert guess_time([column("time", [315_532_800, 4_000_000_000])]) is None  # 117 years of them
    assert guess_time([column("time", ["morning", "evening"])]) is None


def test_a_day_that_may_be_the_month_is_said_to_be_so() -> None:
    guess = guess_time([column("date", ["1/2/2026 10:00", "3/4/2026 10:00"])])
    assert guess is not None
    assert "may have the day or the month first" in str(guess[1])


def test_values_are_ratings_counts_and_amounts() -> None:
    assert guess_value([column("page", [1, 2]), column("Book-Rating", [0, 10])]).value == "Book-Rating"  # type: ignore[union-attr]
    assert guess_value([column("Quantity", [1, -1])]).reason == "-1 to 1"  # type: ignore[union-attr]
    assert guess_value([column("like", [1, 0, -1])]).value == "like"  # type: ignore[union-attr]
    assert guess_value([column("rating", ["good", "bad"])]) is None
    assert guess_value([column("rating", [5, 5])]) is None  # says nothing
    assert guess_value([column("price", [1, 2])]) is None
    unnamed = [column("column_3", [1, 3.5, 5, 4]), column("column_4", [10.25, 700, 3, 8])]
    assert guess_value(unnamed) is None
    assert guess_value(unnamed, has_names=False).value == "column_3"  # type: ignore[union-attr]


def test_columns_of_actions_have_few_words() -> None:
    assert guess_action_column([column("event_type", ["view", "cart", "view"])]).reason == "view 66.7%, cart 33.3%"  # type: ignore[union-attr]
    assert guess_action_column([column("event", range(3))]) is None
    assert guess_action_column([column("event", [f"e{i}" for i in range(50)])]) is None
    assert guess_action_column([column("colour", WORDS)]) is None
    assert guess_only_action([column("event_type", ["view", "view"])]).value == "view"  # type: ignore[union-attr]
    assert guess_only_action([column("event_type", ["view", "cart"])]) is None


def test_propensities_are_probabilities_above_0_of_a_usual_name() -> None:
    assert guess_propensity([column("propensity_score", [0.05, 0.5, 1])]).reason == "0.05 to 1"  # type: ignore[union-attr]
    assert guess_propensity([column("propensity_score", [0, 0.5])]) is None  # the ingest refuses a 0
    assert guess_propensity([column("propensity", [1, 40])]) is None
    assert guess_propensity([column("probability", [0.1, 0.5])]) is None  # of what?


def test_positions_are_whole_numbers_from_1() -> None:
    assert guess_position([column("position", [1, 2, 3])]).reason == "1 to 3"  # type: ignore[union-attr]
    assert guess_position([column("position", [0, 1])]) is None  # the ingest takes them from 1
    assert guess_position([column("position", [1.5, 2])]) is None
    assert guess_position([column("rank", [1, 90_000])]) is None  # of sales
    assert guess_position([column("floor", [1, 2])]) is None


@pytest.mark.parametrize(
    ("name", "values", "at_least", "share"),
    [
        ("rating", [1, 2, 3, 4, 5], 4, 0.4),
        ("rating", [0, 0, 8, 10], 8, 0.5),
        ("stars", [1, 1], None, None),
        ("like", [0, 1, 1, -1], 1, 0.5),
        ("quantity", [*range(-5, 45)], 1, 44 / 50),
        ("数量", [-1, 1, 2, 3], 1, 0.75),
        ("plays", [*range(1, 51)], None, None),  # each row is a positive
    ],
)
def test_the_bound_of_a_label(name: str, values: Sequence[object], at_least: float | None, share: float | None) -> None:
    guess = guess_threshold(column(name, values))
    assert (guess and guess.at_least, guess and guess.share) == (at_least, share)


def test_bounds_part_the_rows() -> None:
    assert [(one.at_least, one.share) for one in thresholds(column("x", [1, 2, 2, 4]))] == [(2, 0.75), (4, 0.25)]


@pytest.mark.parametrize(
    ("name", "values", "code"),
    [
        ("price", [0.5, 1.25, 3.0], "Number()"),
        ("price", [*[1.5] * 50, *[2.5] * 50, 1000.5], 'Number(transform="log1p")'),
        ("balance", [*[1.5] * 50, *[2.5] * 50, -1000.5], 'Number(transform="signed_log")'),
        ("age", [20, 30, 40], "Number()"),
        ("month", [1, 2, 3, 1, 2], "Category(buckets=32)"),
        ("city_id", range(0, 100, 2), "Category(buckets=512)"),
        ("visits", [*range(40), 3], "Number()"),
        ("zip", ["01234", *map(str, range(10_000, 10_030))], "Category(buckets=256)"),
        ("colour", WORDS * 2, "Category(buckets=32)"),
        ("weight", [*range(50), "unknown"], "Number()"),
        ("mixed", [*range(50), "a", "b", "c"], "Text()"),
        ("genres", ["a|b", "b|c", "c|a", "a|b|c", "b"], "Tags(slots=2, buckets=32)"),
        ("genres", ["['a', 'b']", "['b', 'it, too']", "['a']", "[]"], "Tags(slots=2, buckets=32)"),
        ("embedding", ["0.5 1 -2e-3 4", "[1, 2.5, 3, 4]", "1,2,3,.5"], "Vector(4)"),
        ("box", ["1.5 2 3 4", "1 2 3", "1 2 3 4"], "Category(buckets=32)"),
        ("place", ["nyc, new york, usa", "rome, lazio, italy", "oslo, viken, norway"], "Category(buckets=32)"),
        ("about", [f"a long text number {i} about things that never come again" for i in range(60)], "Text()"),
        (
            "about",
            [f"{'abcdefg'[n % 7]}x {'hijkl'[n % 5]}y text number {n} of many" for n in range(60)],
            "Tokens(slots=14, buckets=64)",
        ),
        ("headline", [f"{'神经网络机器学习'[n % 7 :][:2]}第{n}篇" for n in range(60)], "Tokens(slots=8, buckets=128)"),
        ("image", [f"https://cdn/{'abcdefg'[n % 7]}x/{n}.jpg" for n in range(60)], "Text()"),
        ("InvoiceNo", range(536_000, 536_050), "Text()"),
        ("ref", [*range(7_000, 9_000, 2)], "Text()"),  # an id of the row
        ("price", [*range(7_000, 9_000, 2)], "Number()"),
        ("constant", ["x", "x"], None),
        ("empty", [None, None], None),
        ("index", range(30), None),
        ("seen", ["2026-01-02", "2026-01-03"], None),
        ("category_id", ["2.10381E+18", "2.05301E+18"], None),
    ],
)
def test_types_of_own_columns(name: str, values: Sequence[object], code: str | None) -> None:
    assert type_of(name, values) == code


def test_why_a_column_is_left_out_is_said() -> None:
    assert guess_type(column("a", ["x", "x"]), 2).reason == "constant: skipped ('x' in all rows)"
    assert guess_type(column("a", ["2.10381E+18", "2.05301E+18"]), 2).reason.startswith("rounded by a spreadsheet")
    assert guess_type(column("a", range(30)), 30).reason == "numbers of the rows: skipped"
    assert guess_type(column("a", [1, None, 1]), 3).code is not None  # missing ones tell something


def test_separators_are_of_texts_that_come_again() -> None:
    assert guess_separator(column("g", ["x;y", "y;z", "x", "z;x"])) == ";"
    assert guess_separator(column("n", ["1,5", "2,5", "3,5"])) is None
    assert guess_separator(column("t", ["Hello, world", "So it is, no?", "Well, well"])) is None
    blanks = ["Action Comedy", "Comedy Drama", "Drama Action", "Action"]
    assert guess_separator(column("class", blanks)) is None
    is_list = Field("class", pd.Series(blanks, dtype=object), is_list=True)  # as RecBole's header says
    assert guess_separator(is_list) == " "


def test_buckets_are_a_power_of_two_near_ten_times_the_values() -> None:
    assert [buckets_for(count) for count in (1, 50, 100, 10**9)] == [16, 512, 1024, 2**24]


def test_values_beyond_the_sample_are_estimated() -> None:
    # Of 6 values once, 2 twice: 6² / (2 · 2) = 9 more (Chao 1984).
    field = column("x", [*"abcdef", *"gghh", *"iii"])
    assert num_distinct_of_all(field, 1000) == 9 + 9
    assert num_distinct_of_all(field, 13) == 9  # the sample is all of it
    assert num_distinct_of_all(field, 15) == 15


def test_a_column_that_the_item_decides_says_no_more_than_the_item() -> None:
    items = column("item", [i % 20 for i in range(100)])
    assert depends_on(column("title", [f"t{i % 20}" for i in range(100)]), items)
    assert not depends_on(column("price", [f"{i % 20}.{i // 40}" for i in range(100)]), items)
    singles = column("item", range(100))
    assert not depends_on(column("title", [f"t{i}" for i in range(100)]), singles)  # no item has two rows


def test_roles_need_a_name_and_values_that_fit() -> None:
    assert guess_role("age", [column("Age", [20, 30, 40])]).value == "Age"  # type: ignore[union-attr]
    assert guess_role("age", [column("age", ["18-24", "25-34", "x"])]) is None
    assert guess_role("age", [column("age", [1990, 1970, 1980])]) is None  # years
    assert guess_role("release_year", [column("year", [1995, 2001, "n/a"])]).reason == "2 years around 1998"  # type: ignore[union-attr]
    assert guess_role("release_year", [column("year", [1, 2, 3])]) is None
    assert guess_role("published_at", [column("release_date", ["01-Jan-1995"])]) is not None
    assert guess_role("published_at", [column("release_date", ["soon"])]) is None
    assert guess_role("gender", [column("sex", ["M", "F"])]) is not None
    assert guess_role("gender", [column("sex", range(50))]) is None
    assert guess_role("title", [column("name", ["same", "same"])]) is None


def test_roles_of_a_file_without_names_are_told_by_values() -> None:
    films = [f"Film number {i}" for i in range(20)]
    fields = [
        column("column_2", films),
        column("column_3", ["Drama", "Comedy|Drama"] * 10),
        column("column_4", "MF" * 10),
    ]
    values = [
        getattr(guess_role_by_values(role, fields), "value", None) for role in ("title", "category", "gender", "age")
    ]
    assert values == ["column_2", "column_3", "column_4", None]
    assert guess_role_by_values("gender", [column("column_2", "ABAB")]) is None
    assert guess_role_by_values("title", [column("column_2", range(9))]) is None


def test_links_between_users_are_no_actions() -> None:
    one, other = column("column_1", [1, 2, 1, 3]), column("column_2", [2, 1, 3, 1])
    assert are_links(one, other)
    assert not are_links(column("column_1", [1, 2, 3]), column("column_2", [2, 3, 1]))


def test_unmatched_ids_are_counted_once() -> None:
    match = matching(column("item", [1, 1, 2, 9, 9]), column("id", [1, 2, 3]))
    assert (match.num_ids, match.num_unmatched, match.example) == (3, 1, "9")
    assert match.share == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("first", "rows", "is_names"),
    [
        (["who", "what"], [[f"c{i % 3}", f"p{i % 4}"] for i in range(20)], True),
        (["when", "what"], [[f"2026-01-0{1 + i % 9}", f"p{i}"] for i in range(20)], True),
        (["c1", "p1"], [[f"c{i % 3}", f"p{i % 4}"] for i in range(20)], False),  # comes again below
        (["2026-02-01", "p0"], [[f"2026-01-0{1 + i % 9}", f"p{i + 1}"] for i in range(20)], False),
        (["Alien", "sci-fi"], [[f"Film {i}", f"genre {i}"] for i in range(20)], False),  # each once
        (["who", "what"], [["c1", "p1"]], False),  # too few to tell
        (["5", "what"], [[f"c{i % 3}", f"p{i % 4}"] for i in range(20)], False),
    ],
)
def test_which_first_line_has_names(first: list[str], rows: list[list[str]], is_names: bool) -> None:
    assert is_header(first, rows) == is_names


def test_some_of_many_files_are_from_all_over_them() -> None:
    assert spread(1) == [0]
    assert spread(9) == [0, 8, 4, 2, 6, 1, 3, 5, 7]
    assert sorted(spread(305)) == list(range(305))
