"""Published lists on the generated site: who sees them, what exploration shows, and with what propensity."""

import itertools
import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conf import UserError
from conf.runs import PROMOTED, RECOMMENDATIONS, UNKNOWN_USER
from etl.simulator import traffic
from etl.simulator.propensity import block_propensities
from etl.simulator.published import PublishedLists, PublishedPolicy, assign, place_probabilities, read_lists
from etl.simulator.settings import SimulatorSettings
from etl.simulator.world import World

DAY = date(2026, 1, 4)
WORLD = World(SimulatorSettings(users=200, items=60, requests_per_day=3000), 1.0, 5)
AVAILABLE = np.flatnonzero(WORLD.item_birth <= 3)


def write_lists(runs: Path, day: str, rows: Sequence[tuple[str, int, str]], fallback: Sequence[str] = ()) -> None:
    folder = runs / f"recommend-{day}"
    folder.mkdir(parents=True)
    users, ranks, items = (list(column) for column in zip(*rows, strict=True))
    pq.write_table(pa.table({"user_id": users, "rank": ranks, "item_id": items}), folder / RECOMMENDATIONS)
    pq.write_table(pa.table({"item_id": pa.array(fallback, pa.string())}), folder / UNKNOWN_USER)
    (runs / PROMOTED).mkdir(exist_ok=True)
    (runs / PROMOTED / f"{day}.json").write_text(json.dumps({"recommend": folder.name}))


def same_list(explore: float, length: int = 10) -> PublishedLists:
    """A list of the first items, for everybody."""
    lists = np.full((WORLD.num_users, 10), -1)
    lists[:, :length] = AVAILABLE[:length]
    policy = PublishedPolicy(share=1, explore=explore)
    return PublishedLists(DAY, policy, lists, assign(WORLD.num_users, 1), AVAILABLE)


# --- assignment ---


def test_users_stay_in_their_arm_and_a_larger_share_adds_users() -> None:
    half, most = assign(4000, 0.5), assign(4000, 0.8)
    assert (assign(8000, 0.5)[:4000] == half).all()
    assert not (half & ~most).any()
    assert half.mean() == pytest.approx(0.5, abs=0.03)
    assert most.mean() == pytest.approx(0.8, abs=0.03)
    assert not assign(4000, 0).any()
    assert assign(4000, 1).all()


def test_requests_of_the_other_users_are_those_of_a_day_without_published_lists() -> None:
    everybody = same_list(0.3)
    half = PublishedLists(DAY, everybody.policy, everybody.lists, assign(WORLD.num_users, 0.5), AVAILABLE)
    block, without = (next(traffic.request_blocks(WORLD, 3, lists)) for lists in (half, None))
    is_site = ~half.is_assigned[block.users]
    assert 0 < is_site.sum() < len(is_site)
    assert (block.is_published == ~is_site).all()
    assert not without.is_published.any()
    assert (block.users == without.users).all()
    for name in ("items", "probability", "is_clicked", "is_liked", "is_bought", "click_delay_ms"):
        assert (getattr(block, name)[is_site] == getattr(without, name)[is_site]).all(), name
    assert (block_propensities(WORLD, block, 3) > 0).all()


@pytest.mark.parametrize("option", ["share", "explore"])
@pytest.mark.parametrize("value", [-0.1, 1.01, float("nan")])
def test_a_share_outside_0_to_1_is_refused_by_its_name(option: str, value: float) -> None:
    with pytest.raises(UserError, match=f"--{option} {value:g}: write a share from 0 to 1"):
        PublishedPolicy(**{option: value})


# --- exploration ---


def enumerated(num_items: int, places: int, explore: float, first: tuple[int, ...]) -> np.ndarray:
    """(items, places) probabilities by all outcomes of all swaps, of items that start in the order `first`."""
    result = np.zeros((num_items, places))
    for others in itertools.product(*(range(place, num_items) for place in range(places))):
        order, chance = list(first), 1.0
        for place, other in enumerate(others):
            # A swap with itself happens also when there is none.
            chance *= explore / (num_items - place) + (1 - explore) * (other == place)
            order[place], order[other] = order[other], order[place]
        for place in range(places):
            result[order[place], place] += chance
    return result


def test_probabilities_of_places_are_those_of_all_outcomes() -> None:
    tables, expected = place_probabilities(5, 3, 0.3), enumerated(5, 3, 0.3, (0, 1, 2, 3, 4))
    assert tables[3] == pytest.approx(expected[:4])
    assert expected[3] == pytest.approx(expected[4])
    # A list of one item: the other four come after it in any order.
    orders = [enumerated(5, 3, 0.3, (0, *rest)) for rest in itertools.permutations((1, 2, 3, 4))]
    mean = np.mean(orders, axis=0)
    assert tables[1][[0, 3]] == pytest.approx(mean[[0, 1]])


def test_without_exploration_the_list_is_shown_as_it_is() -> None:
    items, propensity = same_list(0).explored(np.arange(50), np.random.default_rng(1))
    assert (items == AVAILABLE[:10]).all()
    assert (propensity == 1).all()


@pytest.mark.parametrize(("explore", "length"), [(0.2, 10), (1.0, 10), (0.2, 6), (0.0, 4)])
def test_items_are_shown_as_often_as_their_propensity_says(explore: float, length: int) -> None:
    users = np.arange(30_000) % WORLD.num_users
    items, propensity = same_list(explore, length).explored(users, np.random.default_rng(3))
    assert all(len(set(row)) == 10 for row in items[:500].tolist())
    assert np.isin(items, AVAILABLE).all()
    for place, item in itertools.product((0, 3, 9), (0, 3, 9, 20)):
        is_item = items[:, place] == AVAILABLE[item]
        share = is_item.mean()
        chance = propensity[is_item, place][0] if share else 0.0
        assert share == pytest.approx(chance, abs=4 * np.sqrt(chance * (1 - chance) / len(users)) + 1e-12)


def test_weighted_by_their_propensity_impressions_count_each_item_once_a_place() -> None:
    block = next(traffic.request_blocks(WORLD, 3, same_list(0.5)))
    counts = (1 / block.propensity).sum(axis=0) / len(block.users)  # (places,)
    assert counts == pytest.approx(len(AVAILABLE), rel=0.1)
    assert counts.mean() == pytest.approx(len(AVAILABLE), rel=0.03)


# --- the lists ---


def test_the_newest_lists_of_an_earlier_day_are_shown_and_only_items_that_exist(tmp_path: Path) -> None:
    unborn = int(np.flatnonzero(WORLD.item_birth > 3)[0])
    first, second, third = AVAILABLE[:3].tolist()
    for day in ("2026-01-02", "2026-01-04"):
        write_lists(tmp_path, day, [("u1", 1, f"i{third}")])
    rows = [("u7", 2, f"i{first}"), ("u7", 1, f"i{second}"), ("u7", 3, f"i{unborn}"), ("u7", 4, "i60"), ("x", 1, "i1")]
    write_lists(tmp_path, "2026-01-03", [*rows, ("u7", 5, f"i{third}")], [f"i{unborn}", f"i{third}"])
    policy = PublishedPolicy()
    lists = read_lists(WORLD, tmp_path, DAY, policy, 10)
    assert lists is not None
    assert lists.day == date(2026, 1, 3)
    assert lists.lists[7].tolist() == [second, first, third, *[-1] * 7]
    assert lists.lists[8].tolist() == [third, *[-1] * 9]  # of unknown users
    assert read_lists(WORLD, tmp_path, date(2026, 1, 2), policy, 10) is None


def test_lists_of_another_site_are_refused(tmp_path: Path) -> None:
    write_lists(tmp_path, "2026-01-03", [("u1", 1, "B00X"), ("A2", 1, "i1")])
    with pytest.raises(UserError, match="lists of 2026-01-03 have no user and item of the generated site"):
        read_lists(WORLD, tmp_path, DAY, PublishedPolicy(), 10)
