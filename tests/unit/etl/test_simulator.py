import hashlib
import json
import struct
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from conf import UserError, load
from etl.simulator import events, simulate, traffic, weblog
from etl.simulator.images import write_covers
from etl.simulator.propensity import block_propensities
from etl.simulator.settings import SimulatorSettings
from etl.simulator.world import World

SMALL = SimulatorSettings(users=200, items=80, requests_per_day=300)
DAY = date(2026, 1, 3)


def digest(folder: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".parquet"):
        found.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return found.hexdigest()


def write_day(folder: Path, seed: int) -> None:
    world = World(SMALL, 1.0, seed)
    for block in traffic.request_blocks(world, 2):
        events.write_block(world, block, DAY, 2, folder / "events", folder / "late")
        weblog.write_block(world, block, DAY, 2, folder / "weblog")
        events.write_truth(block, DAY, folder / "truth")


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_day(tmp_path / name, seed)
    assert digest(tmp_path / "a") == digest(tmp_path / "b") != digest(tmp_path / "c")


def test_clicks_follow_the_true_probability() -> None:
    world = World(SimulatorSettings(users=500, requests_per_day=4000), 1.0, 3)
    block = next(traffic.request_blocks(world, 0))
    p, clicked = block.probability.ravel(), block.is_clicked.ravel()
    for low, high in ((0.0, 0.05), (0.05, 0.15), (0.15, 0.4), (0.4, 1.0)):
        part = (p >= low) & (p < high)
        error = 4 * np.sqrt(p[part].mean() * (1 - p[part].mean()) / part.sum())
        assert abs(clicked[part].mean() - p[part].mean()) < error


def test_a_list_shows_ten_different_items_that_exist_by_then() -> None:
    world = World(SMALL, 1.0, 5)
    for block in traffic.request_blocks(world, 3):
        assert block.items.shape[1] == 10
        distinct = [len(set(row)) for row in block.items.tolist()]
        assert np.mean(np.array(distinct) == 10) > 0.95
        assert world.item_birth[block.items].max() <= 3


def test_impressions_over_their_propensity_count_each_item_once_a_place() -> None:
    world = World(SimulatorSettings(users=200, items=60, requests_per_day=3000), 1.0, 5)
    block = next(traffic.request_blocks(world, 0))
    counts = (1 / block_propensities(world, block, 0)).sum(axis=0) / len(block.users)  # (places,)
    items = (world.item_birth <= 0).sum()
    assert counts.mean() == pytest.approx(items, rel=0.03)
    assert counts == pytest.approx(items, rel=0.15)


def test_lower_places_are_clicked_less() -> None:
    world = World(SMALL, 1.0, 5)
    users, items = np.zeros(1, np.int64), np.zeros((1, 10), np.int64)
    p = world.click_probability(users, items, np.arange(1, 11)[None, :], 0)
    assert (np.diff(p[0]) < 0).all()


def test_events_hold_late_doubled_and_broken_lines_and_the_truth_lies_apart(tmp_path: Path) -> None:
    world = World(SimulatorSettings(users=400, requests_per_day=1500), 1.0, 5)
    block = next(traffic.request_blocks(world, 2))
    events.write_block(world, block, DAY, 2, tmp_path / "today", tmp_path / "tomorrow")
    events.write_truth(block, DAY, tmp_path / "truth")
    text = next((tmp_path / "today").glob("*.jsonl")).read_text()
    parsed = []
    for line in text.splitlines():
        try:
            parsed.append(json.loads(line))
        except ValueError:
            continue
    assert len(text.splitlines()) - len(parsed) == 2
    ids = [event["event_id"] for event in parsed]
    assert 0 < len(ids) - len(set(ids)) < 0.01 * len(ids)
    late = "".join(path.read_text() for path in (tmp_path / "tomorrow").glob("late-*"))
    assert json.loads(late.splitlines()[0])["type"] == "click"
    assert "probability" not in text
    truth = pq.read_table(tmp_path / "truth")
    shown = {event["event_id"] for event in parsed if event["type"] == "impression"}
    assert shown == set(truth["impression_id"].to_pylist())


def test_scale_multiplies_traffic_and_blocks_bound_memory() -> None:
    world = World(SMALL, 100.0, 1)
    sizes = [len(block.users) for block in traffic.request_blocks(world, 0)]
    assert sum(sizes) == 30_000
    assert max(sizes) <= traffic.BLOCK_SIZE


def test_covers_are_png_files_of_the_topics_colour(tmp_path: Path) -> None:
    world = World(SMALL, 1.0, 1)
    assert write_covers(world, tmp_path) == 80
    data = (tmp_path / "i0.png").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", data[16:24]) == (16, 16)


def test_a_landing_zone_that_no_simulation_wrote_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "landing/weblog").mkdir(parents=True)
    with pytest.raises(UserError, match="holds data that no simulation wrote"):
        simulate.run(load(overrides=[f"paths.home={tmp_path}"], environment={}), days=3, scale=0.1, seed=1)
