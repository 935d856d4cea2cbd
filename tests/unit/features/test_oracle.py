"""What a generated site's lists are worth, and what its data allow to learn, against brute force on a small site."""

import numpy as np
import pandas as pd
import pytest

from etl.simulator.settings import SimulatorSettings
from etl.simulator.traffic import LIST_LENGTH, request_blocks
from etl.simulator.truth import read_world, write_world
from etl.simulator.world import World
from features.metrics.classification import auc
from features.oracle import learnable
from features.oracle.impressions import Impressions
from features.oracle.value import ListValue

DAYS = 5


@pytest.fixture(scope="module")
def world() -> World:
    return World(SimulatorSettings(users=200, items=60, requests_per_day=800), scale=1, seed=3)


def impressions_of(world: World, days: range) -> tuple[Impressions, np.ndarray]:
    """Impressions of some days, sorted by user, and their true probabilities."""
    frames = []
    for day in days:
        for block in request_blocks(world, day):
            shape = block.items.shape
            frames.append(
                pd.DataFrame(
                    {
                        "user_id": [f"u{user}" for user in np.repeat(block.users, LIST_LENGTH)],
                        "item_id": [f"i{item}" for item in block.items.ravel()],
                        "position": np.broadcast_to(np.arange(1, LIST_LENGTH + 1), shape).ravel(),
                        "day_index": day,
                        "label": block.is_clicked.ravel().astype(int),
                        "probability": block.probability.ravel(),
                    }
                )
            )
    frame = pd.concat(frames, ignore_index=True)
    order = np.argsort(frame["user_id"].str[1:].astype(int).to_numpy(), kind="stable")
    return Impressions.from_frame(frame), frame["probability"].to_numpy()[order]


def test_a_share_goes_from_random_lists_to_the_best(world):
    users = np.arange(world.num_users)
    value = ListValue(world, users, DAYS, LIST_LENGTH)
    published = np.flatnonzero(world.item_birth <= DAYS)
    probability = world.click_probability(
        users, np.broadcast_to(published, (len(users), len(published))), np.ones((1, 1), np.int64), DAYS
    )
    best = published[np.argsort(-probability, axis=1)[:, :LIST_LENGTH]]
    assert value.share(best) == pytest.approx(1)
    rng = np.random.default_rng(0)
    shares = [value.share(np.stack([rng.permutation(published)[:LIST_LENGTH] for _ in users])) for _ in range(20)]
    assert np.mean(shares) == pytest.approx(0, abs=0.01)
    assert value.share(best[:, ::-1]) < 1  # the better items belong to the better places
    assert value.share(np.full((len(users), LIST_LENGTH), -1)) < 0  # no list is worse than a random one


def test_lists_are_laid_out_by_user_and_rank(world):
    value = ListValue(world, np.array([0, 4, 8]), DAYS, 3)
    ranked = pd.DataFrame(
        {"user_id": ["u4", "u4", "u8", "u5", "u4"], "item_id": ["i7", "i9", "i1", "i2", "i3"], "rank": [2, 1, 3, 1, 4]}
    )
    assert value.lists_of(ranked).tolist() == [[-1, -1, -1], [9, 7, -1], [-1, -1, 1]]


def test_weights_count_requests(world):
    users = np.arange(2)
    value = ListValue(world, users, DAYS, 2)
    published = np.flatnonzero(world.item_birth <= DAYS)
    lists = np.stack([published[:2], published[2:4]])
    clicks = value.expected_clicks(users, lists)
    expected = (clicks - value.random) / (value.best - value.random)
    assert value.share(lists, np.array([1.0, 0.0])) == pytest.approx(expected[0])
    assert value.share(lists, np.array([0.0, 1.0])) == pytest.approx(expected[1])


def test_what_can_be_learned_lies_between_popularity_and_the_truth(world):
    users = np.arange(world.num_users)
    earlier, _ = impressions_of(world, range(DAYS))
    test, truth = impressions_of(world, range(DAYS, DAYS + 1))
    tastes = learnable.posterior_tastes(world, earlier, users)
    learned = learnable.click_probability(world, test, tastes, users)
    items_alone = learnable.impression_logits(world, test)
    assert auc(test.is_clicked, items_alone) + 0.02 < auc(test.is_clicked, learned) < auc(test.is_clicked, truth)
    value = ListValue(world, users, DAYS, LIST_LENGTH)
    lists = learnable.best_lists(world, tastes, users, DAYS, LIST_LENGTH)
    no_impression = earlier.where(np.zeros(len(earlier.user), bool))
    prior = learnable.best_lists(
        world, learnable.posterior_tastes(world, no_impression, users), users, DAYS, LIST_LENGTH
    )
    assert value.share(prior) + 0.1 < value.share(lists) < 1
    assert np.array_equal(tastes, learnable.posterior_tastes(world, earlier, users))


def test_the_posterior_follows_what_a_user_clicked(world):
    """A user who clicks everything of one direction of taste and nothing of the other is drawn towards it."""
    user, liked = 5, world.item_vectors @ world.item_vectors[0] > 0
    items = np.arange(world.num_items)
    rows = np.tile(items, 5)
    impressions = Impressions(
        np.full(len(rows), user), rows, np.ones(len(rows), int), np.full(len(rows), DAYS), liked[rows]
    )
    tastes = learnable.posterior_tastes(world, impressions, np.array([user]))[0]
    assert (tastes @ world.item_vectors[0] > 0.5).all()
    assert np.linalg.norm(tastes, axis=1) == pytest.approx(1.6, abs=1e-4)


def test_a_site_is_generated_again_from_its_file(tmp_path, world):
    write_world(world, tmp_path)
    again = read_world(tmp_path)
    assert np.array_equal(again.item_vectors, world.item_vectors)
    assert (again.num_users, again.seed) == (world.num_users, world.seed)
