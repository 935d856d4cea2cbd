"""What a state is built from: rows of the warehouse's files by Arrow, without Spark."""

import math
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conf import UserError, load
from conf.runs import start_run
from conf.versions import describe_version, publish_version
from features.compute.training_statistics import TrainingStatistics
from recsys.blend.unknown_user import unknown_user_list
from recsys.dataset import HOT_ITEMS
from recsys.serve.state.build import build_state
from recsys.serve.state.publication import Publication, newest_publication
from recsys.serve.state.rows import read_impressions, read_partition, walls
from recsys.serve.state.state import State

DAY, ZONE = date(2026, 3, 8), "America/New_York"
NOON = datetime(2026, 3, 8, 16, tzinfo=UTC)  # 12:00 there: the clocks were set forward at 2
STATISTICS = {"prior": 0.25, "by_position": {"1": 0.5}, "prior_strength": 20.0, "timezone": ZONE}


def write(folder: Path, columns: dict[str, Any], schema: list[tuple[str, Any]]) -> str:
    folder.mkdir(parents=True)
    pq.write_table(pa.table(columns, pa.schema(schema)), folder / "part-0.parquet")
    return f"file:{folder}"


IMPRESSION = [
    ("user_id", pa.string()),
    ("item_id", pa.string()),
    ("position", pa.int32()),
    ("shown_at", pa.timestamp("us", "UTC")),
    ("is_clicked", pa.int32()),
    ("features", pa.map_(pa.string(), pa.float64())),
]


def impressions(folder: Path) -> str:
    """Six rows, of which two have logged ids that are none."""
    logged = [
        None,
        [("category", 3.0)],
        [("category", 3.5)],
        [("user_rate", 1e9)],
        [("category", -1.0)],
        [("hour", None)],
    ]
    columns = {
        "user_id": ["u1", "u1", "u2", "u2", "u1", "u3"],
        "item_id": ["i1", "i2", "i1", "i2", "i1", "i9"],
        "position": [1, 2, 1, 2, 1, None],
        "shown_at": [NOON] * 6,
        "is_clicked": [1, 0, 1, 1, 1, 0],
        "features": logged,
    }
    return write(folder, columns, IMPRESSION)


@pytest.fixture
def publication(tmp_path: Path) -> Publication:
    users = {"user_id": ["u1", "u2"], "gender": ["F", None], "age_group": ["x", "y"], "city": [None, None]}
    items = {
        "item_id": ["i1", "i2", "i3"],
        "category": ["b", None, "a"],
        "author": ["x", "x", None],
        "published_at": [datetime(2026, 3, 8, 4, 30, tzinfo=UTC), None, datetime(2026, 3, 8, 7, tzinfo=UTC)],
    }
    text, moment = pa.string(), pa.timestamp("us", "UTC")
    sources = {
        "dim_user": {str(DAY): write(tmp_path / "users", users, [(name, text) for name in users])},
        "dim_item": {
            str(DAY): write(
                tmp_path / "items",
                items,
                [("item_id", text), ("category", text), ("author", text), ("published_at", moment)],
            )
        },
        "dwd_impression": {str(DAY): impressions(tmp_path / "impressions")},
    }
    candidates = tmp_path / "candidates"
    candidates.mkdir()
    hot = pa.table({"item_id": ["i1", "i2", "i3"], "published_at": items["published_at"], "heat": [0.0, 2.0, 0.0]})
    pq.write_table(hot, candidates / HOT_ITEMS)
    return Publication("key", DAY, DAY, tmp_path, {}, candidates, tmp_path / "examples", STATISTICS, sources)


def test_impressions_are_those_of_training_sets(publication: Publication) -> None:
    """Those with a logged id that is none are left out, as `features.dataset.logged` says."""
    rows = read_impressions(publication).to_pylist()
    assert [(row["user_id"], row["item_id"], row["label"]) for row in rows] == [
        ("u1", "i1", 1),
        ("u1", "i2", 0),
        ("u2", "i2", 1),
        ("u3", "i9", 0),
    ]
    assert {row["at"] for row in rows} == {NOON.timestamp()}
    assert {row["day"] for row in rows} == {(DAY - date(1970, 1, 1)).days}


def test_a_site_without_impressions_counts_its_training_rows(publication: Publication) -> None:
    midnight = datetime(2026, 3, 9, 4, tzinfo=UTC).timestamp()  # the next day begins there
    for split, at in (("train", midnight - 1), ("valid", midnight), ("test", midnight + 3600)):
        rows = {"user_id": ["u1"], "item_id": ["i1"], "at_s": [at], "label": [1.0]}
        schema = [("user_id", pa.string()), ("item_id", pa.string()), ("at_s", pa.float64()), ("label", pa.float32())]
        write(publication.examples / split, rows, schema)
    rows = read_impressions(replace(publication, sources={})).to_pylist()
    assert [row["day"] - (DAY - date(1970, 1, 1)).days for row in rows] == [0, 1, 1]
    assert [(row["position"], row["label"]) for row in rows] == [(None, 1)] * 3


def test_a_folder_that_is_gone_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is gone: its day was loaded again"):
        read_partition(f"file:{tmp_path / 'none'}", ["x"])


def test_clocks_are_those_of_the_zone_on_either_side_of_summer_time() -> None:
    moments = [datetime(2026, 3, 8, 6, 59, tzinfo=UTC), datetime(2026, 3, 8, 7, tzinfo=UTC), None]
    shown = walls(pa.chunked_array([pa.array(moments, pa.timestamp("us", "UTC"))]), ZONE)
    assert [datetime.fromtimestamp(one, UTC).strftime("%H:%M") for one in shown[:2]] == ["01:59", "03:00"]
    assert math.isnan(shown[2])


def test_a_state_knows_what_any_table_names(publication: Publication, tmp_path: Path) -> None:
    """Users and items of impressions alone, too; the hot list is that of the ranking stage."""
    config = load(overrides=[f"paths.home={tmp_path / 'home'}"], environment={})
    folder = build_state(config, publication, lambda _: None)
    assert build_state(config, publication, lambda _: pytest.fail("built again")) == folder
    state = State(folder, TrainingStatistics(**STATISTICS), DAY, 100)  # type: ignore[arg-type]
    assert [state.item_ids[n] for n in range(state.num_items)] == ["i1", "i2", "i3", "i9"]
    assert [state.user(user).code >= 0 for user in ("u1", "u2", "u3", "u4")] == [True, True, True, False]
    one, nobody = state.counts(state.user("u1")), state.counts(state.user("u4"))
    assert (one.shown, one.clicks, one.expected, one.last_click) == (2, 1, 0.5 + 0.25, DAY)
    assert (nobody.shown, nobody.last_click) == (0, None)
    assert state.num_items == 4
    expected = unknown_user_list(pq.read_table(publication.candidates / HOT_ITEMS).to_pandas(), 10)
    assert [state.item_ids[code] for code in state.hot] == expected["item_id"].tolist()
    assert [state.hot_channel(n) for n in range(3)] == expected["channels"].tolist()
    at = datetime(2026, 3, 9, 3, 30, tzinfo=UTC)  # 23:30 of the 8th there
    batch = state.features(state.user("u1"), state.items.find(["i1", "new"]), ["i1", "new"], at, "phone")
    row = batch.row(0)
    assert row["item_age_days"] == pytest.approx(math.log1p(1))  # it appeared at 23:30 of the 7th
    assert row["user_idle_days"] == 0
    assert batch.row(1)["item_shown"] == 0
    assert batch.row(1)["category"] == 0
    assert np.isfinite(batch.dense).all()


@pytest.mark.parametrize(
    ("exclude", "items"), [("clicked", "i1 i3"), ("bought", "i3"), ("shown", "i1 i2 i3"), ("none", "")]
)
def test_a_server_hides_what_published_lists_leave_out(
    publication: Publication, tmp_path: Path, exclude: str, items: str
) -> None:
    """u1 was shown i1 and i2, clicked i1 and bought i3; a request may ask for more or less."""
    acts = {"user_id": ["u1"], "item_id": ["i3"], "action": ["purchase"]}
    bought = {str(DAY): write(tmp_path / "acts", acts, [(name, pa.string()) for name in acts])}
    publication = replace(publication, exclude=exclude, sources={**publication.sources, "dwd_interaction": bought})
    config = load(overrides=[f"paths.home={tmp_path / 'home'}"], environment={})
    folder = build_state(config, publication, lambda _: None)
    state = State(folder, TrainingStatistics(**STATISTICS), DAY, 100)  # type: ignore[arg-type]

    def hidden(user: str, *, seen: bool | None = None, bought: bool | None = None) -> str:
        codes = state.hidden_items(state.user(user), seen=seen, bought=bought)
        return " ".join(sorted({state.item_ids[code] for code in codes.tolist()}))

    assert hidden("u1") == items
    assert hidden("nobody") == ""
    assert hidden("u1", seen=False, bought=False) == ""
    assert {"i1", "i3"} <= set(hidden("u1", seen=True, bought=True).split())


def test_nothing_is_published_until_something_is_promoted(tmp_path: Path) -> None:
    config = load(overrides=[f"paths.home={tmp_path}"], environment={})
    assert newest_publication(config) is None
    home, day = tmp_path, DAY
    with publish_version(home / f"datasets/examples/dt={day}", {"statistics": STATISTICS, "sources": []}):
        pass
    with publish_version(home / f"datasets/candidates/dt={day}", {"sources": [], "exclude": "none"}) as candidates:
        pass
    with start_run(config, "lightgbm", day) as coarse:
        pass
    with start_run(config, "recommend", day) as lists:
        lists.log_dataset(describe_version(candidates))
        lists.log_input_run(coarse.run_id)
    promoted = home / "runs/promoted"
    promoted.mkdir()
    (promoted / "2026-03-10.json").write_text(f'{{"recommend": "{lists.run_id}", "lightgbm": "{coarse.run_id}"}}')
    publication = newest_publication(config)
    assert publication is not None
    assert (publication.day, publication.promoted_for) == (day, date(2026, 3, 10))  # as after a rollback
    assert publication.runs == {"lightgbm": coarse.folder}
    with publish_version(home / f"datasets/candidates/dt={day}", {"sources": []}):  # later ones are not what was ranked
        pass
    publication = newest_publication(config)
    assert publication is not None
    assert (publication.candidates, publication.exclude) == (candidates, "none")
    assert newest_publication(config, date(2026, 3, 9)) is None
    (promoted / "2026-03-11.json").write_text('{"recommend": "gone"}')
    with pytest.raises(UserError, match="promoted run gone of 2026-03-11 is not in"):
        newest_publication(config)
