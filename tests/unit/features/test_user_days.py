"""Counts and tags of many users at once are those of single requests."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from features.counts.counts_before import ClickRates
from features.counts.day_sums import DaySums
from features.counts.running_counts import RunningCounts
from features.counts.user_days import TAGS, user_days

EPOCH, FIRST = date(1970, 1, 1), date(2026, 4, 1)
RATES = ClickRates(0.3, {1: 0.5, 2: 0.25, 3: 0.0}, 20.0)
TOPICS = ("a", "b", "b", "c", None)  # of i0, i1, …
USERS = [f"u{number}" for number in range(6)]
DAYS = [FIRST + timedelta(days=number) for number in (0, 1, 4, 6)]
SCHEMA = pa.schema(
    {"user_id": pa.string(), "day": pa.date32(), "category": pa.string(), "label": pa.int32(), "expected": pa.float64()}
)


def impressions() -> list[dict[str, Any]]:
    """Random ones; nobody is shown anything on the fourth day, and u5 nothing at all."""
    rng = np.random.default_rng(3)
    rows = []
    for _ in range(400):
        item = int(rng.integers(len(TOPICS)))
        row = {"user_id": f"u{rng.integers(5)}", "item_id": f"i{item}", "category": TOPICS[item]}
        row |= {"position": int(rng.integers(1, 4)), "day": DAYS[rng.integers(3)], "label": int(rng.random() < 0.3)}
        rows.append(row)
    return rows


def batch(rows: Sequence[dict[str, Any]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([{name: row.get(name) for name in SCHEMA.names} for row in rows], SCHEMA)


def day_sums(rows: Sequence[dict[str, Any]], key: str) -> DaySums:
    days = np.array([(row["day"] - EPOCH).days for row in rows], np.int64)
    sums = [np.array([value(row) for row in rows], float) for value in (lambda _: 1, by_label, by_position)]
    return DaySums.of([row[key] for row in rows], days, np.array(sums).reshape(3, len(rows)))


def by_label(row: dict[str, Any]) -> int:
    return int(row["label"])


def by_position(row: dict[str, Any]) -> float:
    return RATES.by_position[row["position"]]


def test_users_of_whom_nothing_is_asked_have_no_rows() -> None:
    counted = batch([row | {"expected": by_position(row)} for row in impressions()])
    assert not list(user_days(iter([counted]), day_sums(impressions(), "category")))


def test_the_states_of_users_are_what_a_loop_over_the_days_counts() -> None:
    rows = impressions()
    counted = batch([row | {"expected": by_position(row)} for row in rows])
    asked = batch([{"user_id": user, "day": day} for user in USERS for day in DAYS])
    half = counted.num_rows // 2
    topics = day_sums(rows, "category")
    states = pa.Table.from_batches(list(user_days(iter([counted[:half], asked, counted[half:]]), topics))).to_pylist()
    by_key = {(state["user_id"], state["day"]): state for state in states}
    assert len(by_key) == len(states) == len(USERS) * len(DAYS)
    running = RunningCounts(RATES)
    for day in DAYS:
        for user in USERS:
            state, own = by_key[user, day], dict(by_key[user, day]["topics"])
            for topic in ("a", "b", "c", None):
                expected = running.columns(user, "i0", topic)
                assert [state[tag] for tag in TAGS] == [expected[tag] for tag in TAGS]
                assert state["user_last_click"] == expected["user_last_click"]
                sums = own.get(topic) or dict.fromkeys(("shown", "clicks", "expected"))
                for name, value in sums.items():
                    assert value == pytest.approx(expected[f"user_category_{name}"])
                    assert state[f"user_{name}"] == pytest.approx(expected[f"user_{name}"])
        for row in (row for row in rows if row["day"] == day):
            running.add(row)


def test_sums_by_day_are_there_for_each_day_up_to_the_last_one() -> None:
    rows = impressions()
    sums = day_sums(rows, "category")
    assert sums.last_day == (max(row["day"] for row in rows) - EPOCH).days + 1
    table = {(row["key"], row["day"]): row for row in sums.table().to_pylist()}
    for number in range(1, 6):  # days without an impression as well
        day = FIRST + timedelta(days=number)
        earlier = [row for row in rows if row["day"] < day]
        for topic in ("a", "b", "c"):
            of_topic, row = [one for one in earlier if one["category"] == topic], table[topic, day]
            assert row["shown"] == len(of_topic)
            assert row["clicks"] == sum(one["label"] for one in of_topic)
            assert row["expected"] == pytest.approx(sum(map(by_position, of_topic)))
            assert row["share"] == len(of_topic) / len(earlier)


def test_nothing_counted_is_null_and_without_tags() -> None:
    nothing = day_sums([], "category")
    assert nothing.table().num_rows == 0
    assert list(user_days(iter([]), nothing)) == []
    state = next(user_days(iter([batch([{"user_id": "u0", "day": FIRST}])]), nothing)).to_pylist()[0]
    assert state.pop("topics") == []
    assert state.pop("user_id") == "u0"
    assert state.pop("day") == FIRST
    assert set(state.values()) == {None}
