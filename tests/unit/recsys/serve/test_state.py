"""The parts of a server's state: arrays in files, recent events, similar items. No server, no Spark."""

import math
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest

from conf import UserError
from features.catalog import DENSE, SPARSE
from features.counts.counts_before import ClickRates
from features.counts.running_counts import RunningCounts
from features.item_lists import ItemList
from recsys.blend.weights import Blend
from recsys.dataset import Rows
from recsys.fine import train as fine
from recsys.serve.engine import _explored, standardized
from recsys.serve.events.event import Event
from recsys.serve.served_fm import ServedFM
from recsys.serve.state import recent as recent_module
from recsys.serve.state import state as state_module
from recsys.serve.state.arrays import IdIndex, Lists, Texts, map_array, save_arrays
from recsys.serve.state.choices import similar_items
from recsys.serve.state.recent import Recent, Totals
from recsys.serve.state.state import State, User
from recsys.serve.trees import FlatTrees
from recsys.settings import FMSettings

DAY = date(2026, 1, 7)
RATES = ClickRates(0.25, {1: 0.5, 2: 0.125}, 20.0)
CATEGORY = np.array([0, 1, 2], np.int32)  # the last is no topic


def test_ids_and_texts_come_back_from_their_files(tmp_path: Path) -> None:
    ids = ["u1", "ü2", "用户3", ""]
    save_arrays(tmp_path, IdIndex.build(ids).arrays("index") | Texts.pack(ids).arrays("ids"))
    index, texts = IdIndex.map(tmp_path, "index"), Texts.map(tmp_path, "ids")
    assert index.find(["用户3", "nobody", "u1", "", "ü2"]).tolist() == [2, -1, 0, 3, 1]
    assert [texts[n] for n in range(len(texts))] == ids
    assert IdIndex.build([]).find(["u1"]).tolist() == [-1]
    with pytest.raises(UserError, match="same hash"):
        IdIndex.build(["u1", "u2", "u1"])


def test_a_damaged_array_is_named(tmp_path: Path) -> None:
    save_arrays(tmp_path, {"x": np.arange(3), "none": np.zeros(0)})
    assert map_array(tmp_path, "none").shape == (0,)
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(UserError, match=r"x\.npy is missing or damaged"):
        map_array(tmp_path, "x")


def test_changes_of_a_mapped_array_stay_in_the_process(tmp_path: Path) -> None:
    save_arrays(tmp_path, {"x": np.zeros(3)})
    map_array(tmp_path, "x", "c")[1] = 5
    assert map_array(tmp_path, "x").tolist() == [0, 0, 0]


def test_lists_are_those_of_their_keys() -> None:
    lists = Lists.of_sorted(np.array([0, 0, 2]), np.array([7, 8, 9]), 4)
    assert [lists[key].tolist() for key in range(4)] == [[7, 8], [], [9], []]


def test_items_are_similar_that_the_same_users_chose() -> None:
    """Items 0 and 1 share two users of two choices each; item 2 shares one user of three with both."""
    arrays = similar_items(np.array([0, 0, 1, 1, 2, 2, 2]), np.array([0, 1, 0, 1, 0, 1, 2]), 4, 4)
    lists = Lists(arrays["similar_offsets"], arrays["similar"])
    assert [lists[item].tolist() for item in range(4)] == [[1, 2], [0, 2], [0, 1], []]
    shared = 2 / math.log1p(2) + 1 / math.log1p(3)
    assert arrays["similar_scores"][0] == pytest.approx(shared / (3 + 5.0))
    assert arrays["similar_scores"][1] == pytest.approx(1 / math.log1p(3) / (math.sqrt(3) + 5.0))


def test_scores_are_standardized_as_in_the_blend() -> None:
    rng = np.random.default_rng(1)
    rows = pd.DataFrame({"user_id": ["u"] * 9, "merged": rng.normal(size=9), "fine": rng.random(9)})
    expected = Blend({"merged": 2.0, "fine": 0.5}).predict(rows)
    merged = standardized(rows["merged"].to_numpy(), is_probability=False)
    fine = standardized(rows["fine"].to_numpy(), is_probability=True)
    assert 2 * merged + 0.5 * fine == pytest.approx(expected)
    assert standardized(np.ones(3), is_probability=False).tolist() == [0, 0, 0]


def test_propensities_are_how_often_items_are_shown_where_they_are() -> None:
    """Of 4,000 lists half are random: item 0 leads a list with probability 1/2 + 1/2 · 1/5."""
    best, first = np.array([0, 1, 2]), np.zeros(5)
    for _ in range(4000):
        order, propensity = _explored(best, 5, 0.5)
        first[order[0]] += 1
        assert propensity[0] == pytest.approx(0.6 if order[0] == 0 else 0.1)
        assert len(set(order.tolist())) == 3
    assert first / 4000 == pytest.approx([0.6, 0.1, 0.1, 0.1, 0.1], abs=0.04)
    assert _explored(best, 5, 0.0)[1].tolist() == [1, 1, 1]


def recent(remembered: int = 100, *, remembers_shown: bool = False) -> tuple[Recent, Totals]:
    totals = Totals(np.zeros((3, 3)), np.zeros((3, 3)), np.zeros(1), CATEGORY)
    index = IdIndex.build(["i0", "i1", "i2"])
    return Recent(totals, index, RATES, DAY, "UTC", remembered, remembers_shown=remembers_shown), totals


def event(event_id: str, kind: str, user: str = "u", item: str = "i0", **fields: Any) -> Event:
    return Event(event_id, kind, user, item, **{"ts": "2026-01-08T10:00:00Z"} | fields)  # type: ignore[arg-type]


def test_recent_acts_follow_those_of_the_publication_in_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of their moments, whenever they arrive; of the list's action alone, and before the request."""
    one = ItemList("last_like", "like", 2, 3.0, next(feature for feature in SPARSE if feature.name == "item_id"))
    monkeypatch.setattr(recent_module, "LISTED", {"like"})
    monkeypatch.setattr(state_module, "LISTS", (one,))
    now, _ = recent()
    for number, (kind, item, hour, value) in enumerate(
        [("like", "i2", 11, 5.0), ("like", "i1", 10, 4.0), ("click", "i0", 10, 5.0), ("like", "i0", 12, 1.0)]
    ):
        assert now.add(event(f"e{number}", kind, item=item, ts=f"2026-01-08T{hour}:00:00Z", value=value))
    state = object.__new__(State)
    state._item_features = {"item_id": np.array([70, 71, 72])}
    state._history, state._lists = (
        Lists(np.array([0, 0]), np.zeros(0, np.int32)),
        {"last_like": Lists(np.array([0, 1]), np.array([9]))},
    )
    user = User("u", 0, now.users["u"])

    def listed(hour: int) -> list[int]:
        return state.lists(user, 5, datetime(2026, 1, 8, hour, tzinfo=UTC))["f_last_like"].tolist()

    assert [listed(hour) for hour in (10, 11, 12, 13)] == [[9], [9, 71], [71, 72], [71, 72]]


def test_recent_events_count_as_those_of_finished_days_do() -> None:
    rng, (now, totals), running = np.random.default_rng(2), recent(), RunningCounts(RATES)
    events = []
    for n in range(60):
        user, item, position = f"u{rng.integers(3)}", int(rng.integers(3)), int(rng.integers(1, 4))
        label = int(rng.random() < 0.4)
        events.append(event(f"e{n}", "impression", user, f"i{item}", position=position))
        if label:
            events.append(event(f"c{n}", "click", user, f"i{item}", impression_id=f"e{n}"))
        shown = {"user_id": user, "item_id": f"i{item}", "category": ["a", "b", None][CATEGORY[item]]}
        running.add({**shown, "position": position, "day": date(2026, 1, 8), "label": label})
    for number in rng.permutation(len(events)):  # a click may come before its impression
        assert now.add(events[number])
        assert not now.add(events[number])
    for user, what in now.users.items():
        for code, category in enumerate(("a", "b")):
            expected = running.columns(user, "i0", category)
            assert what.sums == pytest.approx([expected[f"user_{n}"] or 0 for n in ("shown", "clicks", "expected")])
            of_topic = [expected[f"user_category_{n}"] or 0 for n in ("shown", "clicks", "expected")]
            assert what.categories.get(code, [0, 0, 0]) == pytest.approx(of_topic)
            assert what.last_click == expected["user_last_click"]
            of_all = [expected[f"category_{n}"] for n in ("shown", "clicks", "expected")]
            assert totals.categories[:, code] == pytest.approx(of_all)
    for item in range(3):
        expected = running.columns("u0", f"i{item}", "a")
        assert totals.items[:, item] == pytest.approx([expected[f"item_{n}"] for n in ("shown", "clicks", "expected")])
    assert totals.num_shown[0] == 60


def test_a_click_counts_once_and_for_its_own_impression() -> None:
    now, totals = recent()
    now.add(event("e1", "impression", position=1))
    now.add(event("c1", "click", impression_id="e1"))
    now.add(event("c2", "click", impression_id="e1"))  # again
    now.add(event("c3", "click", "other", impression_id="e1"))  # of another user
    now.add(event("c4", "click", item="i1", impression_id="e1"))  # of another item
    now.add(event("c5", "click", item="i2"))  # of no list: in the history, and no label
    assert totals.items[1].tolist() == [1, 0, 0]
    assert now.users["u"].sums == [1, 1, 0.5]
    assert [code for _, code in now.users["u"].choices] == [0, 0, 1, 2]


def test_events_of_days_that_the_lists_know_are_left_out() -> None:
    now, totals = recent()
    assert not now.add(event("e1", "impression", position=1, ts="2026-01-07T23:59:59Z"))
    assert now.add(event("e2", "impression", position=1, ts="2026-01-08T00:30:00+00:00"))
    assert not now.add(event("e3", "impression", position=1, ts="2026-01-08T00:30:00+01:00"))
    assert totals.num_shown[0] == 1


def test_purchases_and_likes_are_filters_and_no_choices() -> None:
    now, _ = recent()
    now.add(event("p", "purchase", item="i1"))
    now.add(event("l", "like", item="i2"))
    now.add(event("c", "click", item="new"))  # nothing is known of it
    assert (now.users["u"].bought, now.users["u"].chosen, now.users["u"].choices) == ({1}, {1, 2}, [])


def test_impressions_are_remembered_where_lists_leave_them_out() -> None:
    forgets, (remembers, _) = recent()[0], recent(remembers_shown=True)
    for now in (forgets, remembers):
        now.add(event("e1", "impression", item="i1", position=1))
        now.add(event("e2", "impression", item="new", position=2))
    assert (forgets.users["u"].shown, remembers.users["u"].shown) == (set(), {1})


def test_only_the_newest_ids_are_remembered() -> None:
    now, _ = recent(remembered=4)
    for number in range(9):
        now.add(event(f"e{number}", "like"))
    known = [number for number in range(9) if now.has(f"e{number}")]
    assert known == list(range(known[0], 9))
    assert 2 <= len(known) <= 4


def test_a_moment_is_utc() -> None:
    assert event("a", "like", ts="2026-01-08T01:00:00.5+02:00").moment == datetime(2026, 1, 7, 23, 0, 0, 500000, UTC)


@pytest.mark.parametrize("parameters", [{}, {"zero_as_missing": True}, {"use_missing": False}, {"boosting": "dart"}])
def test_trees_score_as_lightgbm_does_to_the_last_bit(parameters: dict[str, Any], tmp_path: Path) -> None:
    """With sets of categories beyond 32, missing values of both kinds, and ids that no training row had."""
    rng = np.random.default_rng(5)
    rows = np.concatenate([rng.normal(size=(3000, 3)), rng.integers(0, 70, (3000, 2))], axis=1).astype(np.float32)
    rows[rng.random(rows.shape) < 0.1] = np.nan
    rows[rng.random(rows.shape) < 0.1] = 0
    target = np.nan_to_num(rows[:, 0]) + (np.nan_to_num(rows[:, 3]) % 3) + rng.normal(size=3000)
    data = lgb.Dataset(rows, target > 1, categorical_feature=[3, 4])
    settings = {"objective": "binary", "num_leaves": 15, "min_data_in_leaf": 20, "verbosity": -1, "seed": 1}
    booster = lgb.train(settings | parameters, data, 30)
    trees = FlatTrees.of(booster)
    assert trees is not None
    trees.save(tmp_path)
    mapped = FlatTrees.map(tmp_path)
    assert mapped is not None
    unseen = rows.copy()
    unseen[::3, 3:] += 500
    for matrix in (rows, unseen):
        assert np.array_equal(mapped.scores(matrix), booster.predict(matrix, raw_score=True))


def test_trees_of_another_kind_are_left_to_lightgbm() -> None:
    rng = np.random.default_rng(6)
    rows = rng.normal(size=(500, 2)).astype(np.float32)
    settings = {"objective": "regression", "linear_tree": True, "verbosity": -1}
    booster = lgb.train(settings, lgb.Dataset(rows, rows[:, 0] * 2, params={"linear_tree": True}), 3)
    assert FlatTrees.of(booster) is None


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"field_aware": True},
        {"weights": "q2.13", "l1": 0.0},
        {"inclusion": "poisson", "inclusion_probability": 0.5},
    ],
    ids=["plain", "fields", "16 bits", "inclusion"],
)
def test_an_fm_predicts_from_its_mapped_table_as_the_model_does(settings: dict[str, Any], tmp_path: Path) -> None:
    rng, rows = np.random.default_rng(7), 400
    sparse = rng.integers(0, 8, (rows, len(SPARSE)))
    dense, label = rng.normal(size=(rows, len(DENSE))).astype(np.float32), (rng.random(rows) < 0.3).astype(np.float32)
    data = Rows(sparse, dense, label, {})
    ranker = fine.untrained(data, FMSettings(bits=12, k=4, **settings))
    ranker.model.partial_fit(ranker.encoder.encode(data), label)
    served = ServedFM.of(ranker.model, ranker.encoder, ranker.calibrator)
    is_saved = served.save(tmp_path)
    assert is_saved == ("inclusion" not in settings)
    mapped = ServedFM.map(tmp_path) if is_saved else served
    assert mapped is not None
    assert np.array_equal(mapped.predict(data), ranker.predict(data))
