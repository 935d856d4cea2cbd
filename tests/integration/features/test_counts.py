"""Counts before a day and histories, on Spark and for single requests, against loops in plain Python."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from features import catalog
from features.catalog import SPARSE
from features.compute.spark_rows import item_ids, with_item_lists
from features.counts.counts_before import ClickRates, fit_click_rates, with_counts_before
from features.counts.history import with_history
from features.counts.running_counts import RunningCounts, load_running_counts
from features.dataset.outcomes import with_outcomes
from features.inspect.leaks import find_list_leaks
from features.item_lists import ItemList, last_ids
from features.transforms.beta_prior import BetaPrior

IMPRESSIONS = "user_id string, item_id string, category string, position int, day date, label int"
GROUPS = {
    "item": ("item_id",),
    "user": ("user_id",),
    "category": ("category",),
    "user_category": ("user_id", "category"),
    "all": (),
}
# Where position 4 has no clicks, topic "z" is shown: nothing is expected of it. Position 5 has no rate of its own.
RATES = ClickRates(0.3, {1: 0.5, 2: 0.25, 3: 0.125, 4: 0.0}, 20.0)
FIRST = date(2026, 4, 1)
# Topics of i0, i1, …; i7 has none.
TOPICS = ("a", "a", "b", "b", "c", "d", "z", None)


@dataclass(frozen=True)
class Impression:
    """A labelled row, or a request whose label is not looked at."""

    user_id: str
    item_id: str
    category: str | None
    position: int | None
    day: date
    label: int

    @property
    def row(self) -> tuple[Any, ...]:
        return self.user_id, self.item_id, self.category, self.position, self.day, self.label


def random_impressions(rows: int) -> list[Impression]:
    """Of five users and eight items on days 0, 1, 3 and 4."""
    rng = np.random.default_rng(12)
    impressions = []
    for _ in range(rows):
        item = int(rng.integers(8))
        category = TOPICS[item]
        position = 4 if category == "z" else (None, 1, 2, 3, 5)[rng.integers(5)]
        day = FIRST + timedelta(days=int(rng.choice([0, 1, 3, 4])))
        user = int(rng.integers(5))
        label = int(rng.random() < (0.1 if user == 4 else 0.4))  # one has days with a single click
        impressions.append(Impression(f"u{user}", f"i{item}", category, position, day, label))
    return impressions


def requests() -> list[Impression]:
    """Each user, and a new one, with each item, and a new one of a new topic, on days before, between and after."""
    items = [*((f"i{i}", topic) for i, topic in enumerate(TOPICS)), ("new", "e")]
    return [
        Impression(user, item, topic, 1, FIRST + timedelta(days=n), 0)
        for user in ("u0", "u1", "u2", "u3", "u4", "new")
        for item, topic in items
        for n in (0, 2, 3, 6)
    ]


def counts_before(request: Impression, impressions: Sequence[Impression]) -> dict[str, Any]:
    """What with_counts_before adds, row by row: 10 impressions of prior for tags, one expected click for liked ones."""
    earlier = [i for i in impressions if i.day < request.day]

    def sums(**values: Any) -> tuple[int, int, float] | None:
        if None in values.values():
            return None
        rows = [i for i in earlier if all(getattr(i, name) == value for name, value in values.items())]
        expected = sum(RATES.by_position.get(i.position or 0, 0.3) for i in rows)
        return (len(rows), sum(i.label for i in rows), expected) if rows else None

    columns: dict[str, Any] = {"prior_rate": 0.3, "prior_strength": 20.0}
    for group, keys in GROUPS.items():
        values = sums(**{key: getattr(request, key) for key in keys}) or (None, None, None)
        columns |= {
            f"{group}_{name}": value for name, value in zip(("shown", "clicks", "expected"), values, strict=True)
        }
    of_user = [i for i in earlier if i.user_id == request.user_id]
    columns["user_last_click"] = max((i.day for i in of_user if i.label), default=None)
    of_topic = sums(category=request.category)
    columns["category_share"] = of_topic[0] / len(earlier) if of_topic else None
    lifts, liked = [], []
    for topic in {i.category for i in of_user if i.category}:
        shown, clicks, expected = sums(user_id=request.user_id, category=topic)
        all_shown, all_clicks, all_expected = sums(category=topic)
        share = all_shown / len(earlier)
        lifts.append((-(shown + 10 * share) / (len(of_user) + 10) / share, topic))
        usual = all_clicks / all_expected if all_expected else 1.0
        liked.append((-(clicks + usual) / (expected + 1), topic))
    tags = [topic for _, topic in sorted(lifts)] + [None] * 3
    columns |= {f"user_tag{n}": tags[n - 1] for n in (1, 2, 3)}
    return columns | {"user_liked_tag": min(liked)[1] if liked else None}


def assert_same(actual: dict[str, Any], expected: dict[str, Any], request: Impression) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        is_number = isinstance(value, float)
        assert actual[name] == pytest.approx(value) if is_number else actual[name] == value, (name, request)


def test_a_requests_counts_are_of_the_days_that_are_over() -> None:
    impressions = random_impressions(300)
    counts, today = RunningCounts(RATES), FIRST
    for request in sorted(requests(), key=lambda request: request.day):
        while today < request.day:
            for impression in (i for i in impressions if i.day == today):
                counts.add(vars(impression))
            today += timedelta(days=1)
        actual = counts.columns(request.user_id, request.item_id, request.category)
        assert_same(actual, counts_before(request, impressions), request)


def test_counts_on_spark_are_of_strictly_earlier_days(spark: SparkSession) -> None:
    impressions = random_impressions(300)
    rows = spark.createDataFrame([request.row for request in requests()], IMPRESSIONS).drop("position", "label")
    frame = spark.createDataFrame([i.row for i in impressions], IMPRESSIONS)
    counted = with_counts_before(rows.coalesce(1), frame.coalesce(1), RATES).collect()
    by_request = {(row["user_id"], row["item_id"], row["day"]): row.asDict() for row in counted}
    assert len(by_request) == len(counted) == len(requests())
    for request in requests():
        columns = by_request[request.user_id, request.item_id, request.day]
        keys = {name: columns.pop(name) for name in ("user_id", "item_id", "category", "day")}
        assert keys["category"] == request.category
        # Shares of all impressions only: their sums are no columns.
        expected = {n: value for n, value in counts_before(request, impressions).items() if not n.startswith("all_")}
        assert_same(columns, expected, request)


def test_the_counts_of_a_server_are_loaded_for_the_users_and_items_that_it_is_asked_for(spark: SparkSession) -> None:
    impressions, day = random_impressions(300), FIRST + timedelta(days=4)
    pairs = spark.createDataFrame(
        [("u1", "i2"), ("u3", "i7"), ("u3", "i6"), ("new", "new")], "user_id string, item_id string"
    )
    frame = spark.createDataFrame([i.row for i in impressions], IMPRESSIONS).coalesce(1)
    counts = load_running_counts(frame, RATES, day, pairs)
    for user, item, topic in (("u1", "i2", "b"), ("u3", "i7", None), ("u3", "i6", "z"), ("new", "new", "e")):
        request = Impression(user, item, topic, 1, day, 0)
        assert_same(counts.columns(user, item, topic), counts_before(request, impressions), request)
    of_others = counts.columns("u0", "i0", "a")
    assert (of_others["user_shown"], of_others["item_shown"], of_others["user_tag1"]) == (None, None, None)
    assert of_others["category_shown"] is not None
    empty = load_running_counts(frame, RATES, FIRST, pairs).columns("u1", "i2", "b")
    assert {name for name, value in empty.items() if value is not None} == {"prior_rate", "prior_strength"}


def test_click_rates_are_of_all_rows_and_at_each_position_of_a_list(spark: SparkSession) -> None:
    rows = [(f"i{n % 8}", 1 + n // 40, int(n % 8 < 3 or n % 7 == 0)) for n in range(80)] + [("i9", None, 1)] * 10
    train = spark.createDataFrame(rows, "item_id string, position int, label int").coalesce(1)
    rates = fit_click_rates(train, 12.5)
    clicks = [sum(label for _, position, label in rows if position == number) for number in (1, 2)]
    assert rates.prior == (sum(clicks) + 10) / 90
    assert rates.by_position == {n: pytest.approx((clicks[n - 1] + 20 * rates.prior) / (40 + 20)) for n in (1, 2)}
    assert rates.strength == 12.5
    of_items = train.groupBy("item_id").agg(F.count("*").alias("n"), F.sum("label").alias("c"))
    prior = BetaPrior.fit(of_items, "c", "n", "em")
    assert fit_click_rates(train, "em").strength == pytest.approx(prior.alpha + prior.beta)
    assert fit_click_rates(train.where("false"), 1.0) == ClickRates(0, {}, 1.0)
    assert ClickRates(0.1) == ClickRates(0.1, {}, 20.0)


HISTORY = "example_id string, user_id string, at timestamp, day date, label int, item_code bigint"


def test_a_history_has_the_newest_choices_of_earlier_days_oldest_first(spark: SparkSession) -> None:
    rng = np.random.default_rng(2)
    times = [datetime(2026, 4, 1) + timedelta(hours=int(rng.integers(6 * 24))) for _ in range(200)]
    rows = [
        (f"e{n}", f"u{rng.integers(4)}", at, at.date(), int(rng.random() < 0.5), int(rng.integers(100)))
        for n, at in enumerate(times)
    ]
    # One choice a day: of all of these, the newest 20 histories are looked at.
    daily = [(f"d{n}", "daily", datetime(2026, 3, n), date(2026, 3, n), 1, 100 - n) for n in range(1, 31)]
    rows += [*daily, ("none", "shy", datetime(2026, 4, 9), date(2026, 4, 9), 0, 1)]
    frame = spark.createDataFrame(rows, HISTORY).coalesce(1)
    histories = {row["example_id"]: row["history"] for row in with_history(frame, frame, 3).collect()}
    assert len(histories) == len(rows)
    for name, user, _, day, _, _ in rows:
        choices = sorted((at, item) for _, of, at, on, label, item in rows if of == user and label and on < day)
        assert histories[name] == [item for _, item in choices[-3:]], name
    of_daily = {
        row["example_id"]: row["history"] for row in with_history(frame, frame, 1).where("user_id = 'daily'").collect()
    }
    assert of_daily == {f"d{n}": [101 - n] if n > 11 else [] for n in range(1, 31)}
    # Where rows have no real days, what was chosen earlier on the day counts, too.
    by_time = with_history(frame, frame, 3, by_day=False).collect()
    histories = {row["example_id"]: row["history"] for row in by_time}
    for name, user, at, *_ in rows[:200]:
        choices = sorted(
            (moment, item) for _, of, moment, _, label, item in rows if of == user and label and moment < at
        )
        assert histories[name] == [item for _, item in choices[-3:]], name


def test_a_click_is_followed_by_acts_on_the_same_impression_alone(spark: SparkSession) -> None:
    rows = spark.createDataFrame([("a", 1), ("b", 1), ("c", 0), ("d", 1)], "example_id string, label int")
    acts = [("a", "like"), ("a", "like"), ("a", "share"), ("b", "purchase"), ("c", "like"), (None, "like")]
    followed = with_outcomes(rows, spark.createDataFrame(acts, "impression_id string, action string"))
    labels = {row["example_id"]: (row["label_like"], row["label_purchase"]) for row in followed.collect()}
    assert labels == {"a": (1, 0), "b": (0, 1), "c": (None, None), "d": (0, 0)}
    unknown = with_outcomes(rows, None).collect()
    assert {(row["label_like"], row["label_purchase"]) for row in unknown} == {(None, None)}


def test_lists_have_what_was_done_before_the_rows_moment_and_nothing_later(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the same in Python, with acts at the very moments of rows; a list that takes these in is a leak."""
    fields = {feature.name: feature for feature in SPARSE}
    lists = (
        ItemList("last_view", "view", 3, 30, fields["item_id"]),
        ItemList("last_cart_category", "cart", 4, None, fields["category"]),
    )
    monkeypatch.setattr(catalog, "LISTS", lists)
    rng = np.random.default_rng(3)

    def moment() -> datetime:
        return datetime(2026, 4, 1) + timedelta(hours=int(rng.integers(60)))

    rows = [(f"e{n}", f"u{rng.integers(4)}", moment()) for n in range(120)]
    acts = [
        (
            f"u{rng.integers(4)}",
            f"i{rng.integers(8)}",
            moment(),
            ("view", "cart")[rng.integers(2)],
            float(rng.integers(60)),
        )
        for _ in range(150)
    ]
    shown = spark.createDataFrame(rows, "example_id string, user_id string, at timestamp").coalesce(1)
    done = spark.createDataFrame(acts, "user_id string, item_id string, at timestamp, action string, value double")
    items = spark.createDataFrame(
        [(f"i{n}", topic, None, None) for n, topic in enumerate(TOPICS)],
        "item_id string, category string, author string, published_at timestamp",
    )
    done, ids = done.coalesce(1), [item_ids(one.field).alias(one.name) for one in lists]
    codes = {row["item_id"]: row for row in items.select("item_id", *ids).collect()}
    of_users: dict[str, list[dict[str, Any]]] = {f"u{n}": [] for n in range(4)}
    for user, item, at, action, value in acts:
        names = {one.name: codes[item][one.name] for one in lists}
        of_users[user].append({"at_s": at.timestamp(), "action": action, "value": value, **names})
    listed = {row["example_id"]: row for row in with_item_lists(shown, done, items).collect()}
    for name, user, at in rows:
        for one in lists:
            assert listed[name][one.column] == last_ids(one, of_users[user], at.timestamp()), (name, one.name)
    assert {len(row["f_last_view"]) for row in listed.values()} == {0, 1, 2, 3}
    assert find_list_leaks(shown, done, lambda some, known: with_item_lists(some, known, items)) == []
    # As if acts of the next hours had happened already.
    earlier = F.expr("at - interval 5 hours")
    leaky = find_list_leaks(
        shown, done, lambda some, known: with_item_lists(some, known.withColumn("at", earlier), items)
    )
    assert leaky == ["f_last_view", "f_last_cart_category"]
    assert set(with_item_lists(shown, None, items).select("f_last_view").first()[0]) == set()
