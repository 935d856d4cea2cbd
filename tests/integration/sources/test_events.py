"""Events of the site: which values are accepted, whose day and impression they count for, in any order of loading."""

import json
import random
import shutil
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from pyspark.sql import SparkSession

from conf import Config, Paths, UserError
from etl.events import job as events
from etl.events.parse import parse
from etl.events.settings import EventSettings
from etl.tables import ads, dwd, ods
from etl.warehouse.store import Warehouse
from features.dataset.examples import from_impressions

DAY = timedelta(days=1)
Event = dict[str, Any]


def land(config: Config, day: date, lines: list[str]) -> None:
    folder = config.get(Paths).landing("events", day)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "events.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def impression(name: str, at: str, **more: object) -> str:
    base = {"event_id": name, "type": "impression", "ts": at, "user_id": "u1", "item_id": "i1", "position": 1}
    return json.dumps({**base, **more})


def click(name: str, at: str, on: str, **more: object) -> str:
    base = {"event_id": name, "type": "click", "ts": at, "user_id": "u1", "item_id": "i1", "impression_id": on}
    return json.dumps({**base, **more})


def clicked(warehouse: Warehouse, day: date) -> dict[str, int]:
    return {row["impression_id"]: row["is_clicked"] for row in warehouse.read(dwd.impression, [day]).collect()}


def refused(warehouse: Warehouse, day: date) -> Counter[str]:
    rows = warehouse.read(ods.quarantine, [day]).where("stage = 'events'").collect()
    return Counter(row["reason"] for row in rows)


# --- any order of days ---


@pytest.mark.wide  # the days in any order below have such clicks, and such an order
def test_a_click_after_midnight_stays_when_its_impressions_day_is_loaded_again(
    spark: SparkSession, config: Config
) -> None:
    warehouse, day = Warehouse(spark, config), date(2027, 2, 8)
    land(config, day, [impression("m1", "2027-02-08T23:59:50Z")])
    land(config, day + DAY, [click("m2", "2027-02-09T00:00:10Z", "m1")])
    for loaded in (day, day + DAY, day):
        events.run(spark, config, [loaded])
        assert clicked(warehouse, day) == {"m1": 1}


def test_a_day_of_a_range_without_its_folder_keeps_its_rows_and_is_named(
    spark: SparkSession, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    warehouse, days = Warehouse(spark, config), [date(2027, 3, 1) + n * DAY for n in range(3)]
    for day in days:
        land(
            config, day, [impression(f"k-{day}", f"{day}T12:00:00Z"), click(f"c-{day}", f"{day}T12:01:00Z", f"k-{day}")]
        )
    assert events.run(spark, config, days)["rows_out"] == 6
    shutil.rmtree(config.get(Paths).landing("events", days[1]))
    for several in (days, days[1:], days[:2]):
        caplog.clear()
        events.run(spark, config, several)
        assert "2027-03-02: no files in the landing zone; what was loaded before stays" in caplog.text
        assert [clicked(warehouse, day) for day in days] == [{f"k-{day}": 1} for day in days]
    with pytest.raises(UserError, match="nothing has landed for 2027-03-02"):
        events.run(spark, config, [days[1]])
    assert clicked(warehouse, days[1]) == {"k-2027-03-02": 1}


def test_a_day_whose_late_events_folder_is_gone_keeps_them_unless_it_is_loaded_alone(
    spark: SparkSession, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    warehouse, days = Warehouse(spark, config), [date(2027, 4, 1) + n * DAY for n in range(4)]
    for day in days:
        land(config, day, [impression(f"k-{day}", f"{day}T12:00:00Z")])
    land(
        config,
        days[2],
        [impression("late", "2027-04-02T23:59:59Z"), impression("k-2027-04-03", f"{days[2]}T12:00:00Z")],
    )
    events.run(spark, config, days)
    before = loaded_tables(warehouse, days)
    shutil.rmtree(config.get(Paths).landing("events", days[2]))
    for several in (days, days[:1]):  # the second makes the day after again, too, where it can
        events.run(spark, config, several)
        assert loaded_tables(warehouse, days) == before
    assert "2027-04-02: late events in folders without files now; what was loaded before stays" in caplog.text
    with pytest.raises(UserError, match="each day has events of folders that are gone"):
        events.run(spark, config, days[1:3])
    events.run(spark, config, [days[1]])
    assert "2027-04-02 loses its events that were in the folder of 2027-04-03" in caplog.text
    assert set(clicked(warehouse, days[1])) == {"k-2027-04-02"}


def random_events(rng: random.Random, first: date) -> tuple[dict[date, list[str]], list[Event]]:
    """Lines of four landing folders, and the events among them: late, doubled, of others' impressions, and bad lines."""
    folders: dict[date, list[str]] = {first + n * DAY: ["{bad"] * rng.randrange(2) for n in range(4)}
    last, midnight = max(folders), datetime.combine(first, datetime.min.time(), UTC)
    events: list[Event] = []

    def send(event: Event, at: datetime) -> None:
        event = {**event, "ts": at.isoformat().replace("+00:00", "Z")}
        for _ in range(rng.choice((1, 1, 1, 2, 3))):  # sent again: it may land twice, on any later day
            day = min(max(at.date() + rng.choice((0, 0, 0, 0, 1, 1, 2, 3)) * DAY, first), last)
            folders[day].append(json.dumps(event))
            events.append({**event, "at": at})

    for n in range(30):
        shown_at = midnight + timedelta(seconds=rng.randrange(4 * 86_400 - 1))
        user, item = f"u{rng.randrange(5)}", f"i{rng.randrange(5)}"
        base = {"user_id": user, "item_id": item, "position": 1}
        send({**base, "event_id": f"s{n}", "type": "impression"}, shown_at)
        if rng.random() < 0.1:  # the same id at another time
            send({**base, "event_id": f"s{n}", "type": "impression"}, min(shown_at + DAY, midnight + 3 * DAY))
        for kind in rng.sample(("click", "click", "like", "purchase"), rng.randrange(3)):
            at = shown_at + timedelta(seconds=rng.choice((30, 3_600, 40_000, 90_000, 200_000)))
            other = {"user_id": "other"} if rng.random() < 0.15 else {}
            act = {**base, **other, "event_id": f"{kind[0]}{n}-{rng.randrange(3)}", "type": kind}
            if at.date() <= last:
                send({**act, "impression_id": f"s{n}"}, at)
    return folders, events


def expected_tables(events: list[Event]) -> dict[str, set[tuple[Any, ...]]]:
    """The tables of all days by plain loops over all events: a second route to the same rows."""
    kept: list[Event] = []
    for event in sorted(events, key=lambda event: event["at"]):
        earlier = [e for e in events if e["event_id"] == event["event_id"] and e["at"] < event["at"]]
        is_first = not any(k["event_id"] == event["event_id"] and k["at"] == event["at"] for k in kept)
        if is_first and all((event["at"].date() - e["at"].date()).days > 1 for e in earlier):
            kept.append(event)
    interactions, others, clicks = set(), set(), set()
    for act in (event for event in kept if event["type"] != "impression"):
        shown = [
            e
            for e in events
            if e["type"] == "impression"
            and e["event_id"] == act["impression_id"]
            and 0 <= (act["at"].date() - e["at"].date()).days <= 1
        ]
        same = [e for e in shown if (e["user_id"], e["item_id"]) == (act["user_id"], act["item_id"])]
        if shown and not same:
            others.add((act["event_id"], act["at"].date()))
            continue
        interactions.add((act["event_id"], act["user_id"], act["type"], act["at"]))
        if same and act["type"] == "click":
            clicks.add((act["impression_id"], min(e["at"].date() for e in same)))
    impressions = {
        (e["event_id"], e["user_id"], e["at"], int((e["event_id"], e["at"].date()) in clicks))
        for e in kept
        if e["type"] == "impression"
    }
    return {"impressions": impressions, "interactions": interactions, "others": others}


def loaded_tables(warehouse: Warehouse, days: list[date]) -> dict[str, set[tuple[Any, ...]]]:
    def rows(frame: Any, *names: str) -> list[tuple[Any, ...]]:
        # As seconds: collected timestamps are in the machine's zone.
        seconds = [f"cast({name} as double) as {name}" if name.endswith("_at") else name for name in names]
        return [
            tuple(datetime.fromtimestamp(v, UTC) if n.endswith("_at") else v for n, v in zip(names, row, strict=True))
            for row in frame.selectExpr(*seconds).collect()
        ]

    impressions = rows(warehouse.read(dwd.impression, days), "impression_id", "user_id", "shown_at", "is_clicked")
    interactions = rows(warehouse.read(dwd.interaction, days), "event_id", "user_id", "action", "acted_at")
    quarantined = warehouse.read(ods.quarantine, days).where("stage = 'events' and reason = 'other_impression'")
    others = [(json.loads(line)["event_id"], date.fromisoformat(dt)) for line, dt in rows(quarantined, "line", "dt")]
    assert len(set(impressions)) == len(impressions)
    assert len(set(interactions)) == len(interactions)
    rates = {row["dt"]: (row["impressions"], row["clicks"]) for row in warehouse.read(ads.ctr_daily, days).collect()}
    for day in days:
        of_day = [row for row in impressions if row[2].date() == day]
        assert rates.get(str(day), (0, 0)) == (len(of_day), sum(row[3] for row in of_day))
    return {"impressions": set(impressions), "interactions": set(interactions), "others": set(others)}


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.wide)])
def test_days_loaded_in_any_order_and_again_give_the_same_tables(
    spark: SparkSession, config: Config, seed: int
) -> None:
    rng, first = random.Random(seed), date(2031 + seed, 5, 4)
    folders, sent = random_events(rng, first)
    warehouse, days = Warehouse(spark, config), list(folders)
    order = [*rng.sample(days, 4), *rng.choices(days, k=rng.randrange(3))]
    lies_there = rng.random() < 0.5 or seed == 0
    for day in days if lies_there else []:
        land(config, day, folders[day])
    for day in order:
        land(config, day, folders[day])  # else a folder appears when it is loaded
        counts = events.run(spark, config, [day])
        parts = ("rows_out", "rows_invalid", "rows_quarantined")
        assert counts["rows_in"] == sum(counts[part] for part in parts)
    assert loaded_tables(warehouse, days) == expected_tables(sent), order
    # Every line is in a table, doubled, or in quarantine.
    everything = events.run(spark, config, days)
    assert everything["rows_in"] == sum(len(lines) for lines in folders.values())
    assert everything["rows_other_date"] == 0
    assert loaded_tables(warehouse, days) == expected_tables(sent)


# --- late events ---


def test_late_and_impossible_days_are_in_their_day_or_in_quarantine(spark: SparkSession, config: Config) -> None:
    warehouse, day = Warehouse(spark, config), date(2027, 6, 10)
    land(config, day - 4 * DAY, [impression("l1", "2027-06-06T12:00:00Z")])
    events.run(spark, config, [day - 4 * DAY])
    land(
        config,
        day,
        [
            click("l2", "2027-06-06T13:00:00Z", "l1"),  # four days late
            click("l3", "0001-01-01T00:00:00Z", "l1"),
            click("l4", "9999-12-31T23:59:59Z", "l1"),
            click("l5", "2027-05-10T13:00:00Z", "l1"),  # 31 days late
            click("l6", "2027-06-12T00:00:00Z", "l1"),
            click("l7", "2027-06-11T00:00:01Z", "l1"),  # of tomorrow, which has not landed yet
            click("l8", "2027-06-08T13:00:00Z", "l1"),  # of a day that never landed
        ],
    )
    counts = events.run(spark, config, [day])
    assert clicked(warehouse, day - 4 * DAY) == {"l1": 1}
    assert refused(warehouse, day) == {"too_late": 2, "in_future": 2, "day_not_landed": 1}
    assert counts["rows_other_date"] == 1
    # Two lines of the day four days ago, five of this one.
    assert (counts["rows_in"], counts["rows_out"], counts["rows_quarantined"]) == (7, 2, 5)
    for other in (day - 2 * DAY, day + DAY):
        land(config, other, [impression(f"l9-{other}", f"{other}T12:00:00Z")])
        events.run(spark, config, [other])
    assert refused(warehouse, day) == {"too_late": 2, "in_future": 2}
    for other, name in ((day - 2 * DAY, "l8"), (day + DAY, "l7")):
        assert [row["event_id"] for row in warehouse.read(dwd.interaction, [other]).collect()] == [name]


# --- values ---

VALID = {"event_id": "e", "type": "purchase", "ts": "2027-01-01T00:00:00Z", "user_id": "u", "item_id": "i"}


def line(**more: object) -> str:
    return json.dumps({**VALID, **more})


PLAIN = line()
# Line -> its reason, and the values of an accepted one.
LINES: list[tuple[str, str | None, Event]] = [
    (PLAIN, None, {"value": None, "user_id": "u"}),
    (f"  {PLAIN}\t\r", None, {}),
    (line(value="12.50"), None, {"value": 12.5}),
    (line(value=12.5), None, {"value": 12.5}),
    (line(value=-3), None, {"value": -3.0}),
    (line(value=None), None, {"value": None}),
    (line(user_id="  u7 "), None, {"user_id": "u7"}),
    (line(user_id=17), None, {"user_id": "17"}),
    (line(user_id="true", item_id="1.0"), None, {"user_id": "true", "item_id": "1.0"}),
    (line(user_id='["a"]'), None, {"user_id": '["a"]'}),
    (line(position="3"), None, {"position": 3}),
    (line(type="impression", position=1), None, {"propensity": None}),
    (line(type="impression", position=1, propensity=0.25), None, {"propensity": 0.25}),
    (line(type="impression", position=1, propensity=8e-05), None, {"propensity": 8e-05}),
    (line(type="impression", position=1, propensity="1"), None, {"propensity": 1.0}),
    (line(ts="2027-01-01 01:30:00.123+05:30"), None, {"dt": "2026-12-31"}),
    (line(ts="2027-01-01T01:30:00+0530"), None, {"dt": "2026-12-31"}),
    (line(features={"age": 1, "rate": 0.5, "none": None}), None, {"features": {"age": 1.0, "rate": 0.5, "none": None}}),
    (line(features=None, device=None), None, {"features": None}),
    (line(other={"deep": [1, {"x": 2}]}), None, {}),
    (line(value="twelve"), "bad_value", {}),
    (line(value="1d"), "bad_value", {}),
    (line(value="Infinity"), "bad_value", {}),
    (line(value=True), "bad_value", {}),
    (line(value=[1]), "bad_value", {}),
    (line(value=""), "bad_value", {}),
    (PLAIN.replace("}", ', "value": 1e999}'), "bad_value", {}),
    (PLAIN.replace("}", ', "value": NaN}'), "not_json", {}),
    (PLAIN.replace("}", ', "value": Infinity}'), "not_json", {}),
    (line(user_id=""), "missing_field", {}),
    (line(user_id=" \u3000\t"), "missing_field", {}),
    (line(item_id=None), "missing_field", {}),
    (line(user_id=1.0), "bad_type", {}),
    (line(user_id=True), "bad_type", {}),
    (line(item_id=["a"]), "bad_type", {}),
    (line(item_id={"a": 1}), "bad_type", {}),
    (line(event_id=1e20), "bad_type", {}),
    (line(impression_id=[1]), "bad_type", {}),
    (line(device={"a": 1}), "bad_type", {}),
    (line(type=True), "unknown_type", {}),
    (line(type="impression"), "bad_position", {}),
    (line(type="impression", position=1.5), "bad_position", {}),
    (line(position=12345678901), "bad_position", {}),
    (line(position=True), "bad_position", {}),
    (line(type="impression", position=1, propensity=0), "bad_propensity", {}),
    (line(type="impression", position=1, propensity=1.01), "bad_propensity", {}),
    (line(type="impression", position=1, propensity=-0.1), "bad_propensity", {}),
    (line(type="impression", position=1, propensity="often"), "bad_propensity", {}),
    (line(type="impression", position=1, propensity=True), "bad_propensity", {}),
    (line(features={"age": "old"}), "bad_features", {}),
    (line(features=[1]), "bad_features", {}),
    (PLAIN.replace("}", ', "features": {"a": 1e999}}'), "bad_features", {}),
    (PLAIN.replace("}", ', "features": {"a": 1, "a": 2}}'), "duplicate_key", {}),
    (PLAIN.replace("}", ', "user_id": "v"}'), "duplicate_key", {}),
    (PLAIN + PLAIN, "not_json", {}),
    (f"{PLAIN},{PLAIN}", "not_json", {}),
    (f"{PLAIN}] trailing", "not_json", {}),
    (f"{PLAIN} // comment", "not_json", {}),
    (f"/* comment */{PLAIN}", "not_json", {}),
    (PLAIN.replace('"', "'"), "not_json", {}),
    (PLAIN.replace("}", ",}"), "not_json", {}),
    (f"[{PLAIN}]", "not_json", {}),
    ("5", "not_json", {}),
    ("null", "not_json", {}),
    ("{}", "missing_field", {}),
    (" \t", "empty_line", {}),
    (line(ts="2027-01-01T00:00:00"), "no_time_zone", {}),
    (line(ts="2027-01-01"), "bad_time", {}),
    (line(ts=1798761600), "bad_time", {}),
    (line(ts="2026-12-31T23:59:60Z"), "bad_time", {}),
    (line(ts="2026-12-31T24:00:00Z"), "bad_time", {}),
    (line(ts="2027-02-29T12:00:00Z"), "bad_time", {}),
    (line(ts="2027-01-01T00:00:00 Europe/Berlin"), "bad_time", {}),
]


def test_each_value_is_read_as_declared_or_refused_with_its_reason(spark: SparkSession) -> None:
    rows = [(text, f"/landing/events/dt=2027-01-01/{n:03d}") for n, (text, _, _) in enumerate(LINES)]
    lines = spark.createDataFrame(rows, "line string, file string")
    parsed = parse(lines, EventSettings(), "UTC", [date(2026, 12, 31)]).orderBy("file").collect()
    assert [(row["line"], row["reason"]) for row in parsed] == [(text, reason) for text, reason, _ in LINES]
    for row, (_, _, values) in zip(parsed, LINES, strict=True):
        assert {name: row[name] for name in values} == values


def test_an_act_on_an_impression_of_another_user_or_item_is_quarantined(spark: SparkSession, config: Config) -> None:
    warehouse, day = Warehouse(spark, config), date(2027, 8, 2)
    at = "2027-08-02T12:00:00Z"
    land(
        config,
        day,
        [
            impression("o1", at),
            click("o2", at, "o1", user_id="u2"),
            click("o3", at, "o1", item_id="i2"),
            click("o4", at, "o1", type="like", item_id="i2"),
            click("o5", at, "unknown"),
        ],
    )
    counts = events.run(spark, config, [day])
    assert clicked(warehouse, day) == {"o1": 0}
    assert refused(warehouse, day) == {"other_impression": 3}
    assert [row["event_id"] for row in warehouse.read(dwd.interaction, [day]).collect()] == ["o5"]
    assert (counts["rows_in"], counts["rows_out"], counts["rows_quarantined"]) == (5, 2, 3)


def test_days_are_those_of_the_declared_zone(spark: SparkSession, config: Config) -> None:
    """Berlin's clocks go back on 2027-10-31 at 01:00 UTC: the hour from 2 comes twice, and the day has 25 hours."""
    warehouse, day = Warehouse(spark, config), date(2027, 10, 31)
    times = ["2027-10-30T21:59:59Z", "2027-10-30T22:00:00Z", "2027-10-31T00:30:00Z", "2027-10-31T01:30:00Z"]
    times += ["2027-10-31T22:59:59Z", "2027-10-31T23:00:00Z"]
    land(config, day - DAY, [impression(f"z{n}", at) for n, at in enumerate(times) if at < "2027-10-31"])
    land(config, day, [impression(f"z{n}", at) for n, at in enumerate(times) if at > "2027-10-31"])
    local = config.with_values({"site.timezone": "Europe/Berlin"})
    for loaded in (day - DAY, day):
        events.run(spark, local, [loaded])
    assert sorted(clicked(warehouse, day)) == ["z1", "z2", "z3", "z4"]
    assert sorted(clicked(warehouse, day - DAY)) == ["z0"]
    # So do the training rows, and with them every count of the days before.
    examples = from_impressions(warehouse.read(dwd.impression, [day])).select("day", "example_id").collect()
    assert {(row["day"], row["example_id"]) for row in examples} == {(day, f"z{n}") for n in (1, 2, 3, 4)}
