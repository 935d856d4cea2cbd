"""One day of the site: who came when, what was shown, what was clicked, liked and bought.

Drawn in blocks of requests, so that memory depends on the block and not on the scale or the number of days.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from etl.simulator.world import World

LIST_LENGTH = 10
CANDIDATES = 30
BLOCK = 20_000
# Share of the traffic in each hour, UTC.
HOURS = np.array([2, 1, 1, 1, 1, 2, 3, 5, 6, 5, 5, 5, 6, 5, 4, 4, 4, 5, 6, 7, 8, 7, 5, 3], dtype=np.float64)
MS_PER_DAY = 86_400_000


@dataclass(frozen=True)
class Block:
    """Requests of a day: arrays of n requests, and n × 10 for what each showed."""

    number: int
    users: NDArray[np.int64]  # (n,)
    at_ms: NDArray[np.int64]  # (n,) milliseconds of the day
    items: NDArray[np.int64]  # (n, 10)
    probability: NDArray[np.float64]  # (n, 10) the true one
    is_clicked: NDArray[np.bool_]  # (n, 10)
    is_liked: NDArray[np.bool_]  # (n, 10), among the clicked
    is_bought: NDArray[np.bool_]  # (n, 10), among the clicked
    click_delay_ms: NDArray[np.int64]  # (n, 10)


def blocks(world: World, day_index: int) -> Iterator[Block]:
    """The day's requests, block by block; the same for the same seed, scale and day."""
    alive = np.where(world.item_birth <= day_index, world.item_popularity, 0.0)
    popularity = np.cumsum(alive / alive.sum())
    for number, first in enumerate(range(0, world.num_requests, BLOCK)):
        rng = world.rng(100, day_index, number)
        yield _block(world, day_index, number, min(BLOCK, world.num_requests - first), popularity, rng)


def _block(
    world: World, day_index: int, number: int, n: int, popularity: NDArray[np.float64], rng: np.random.Generator
) -> Block:
    users = np.minimum(np.searchsorted(world.user_activity, rng.random(n)), world.num_users - 1)
    hour = rng.choice(24, n, p=HOURS / HOURS.sum())
    at_ms = np.sort(hour * 3_600_000 + rng.integers(0, 3_600_000, n))
    at_ms = np.minimum(at_ms, MS_PER_DAY - 1)
    items = _shown(world, users, day_index, popularity, rng)
    positions = np.broadcast_to(np.arange(1, LIST_LENGTH + 1), items.shape)
    probability = world.click_probability(users, items, positions, day_index)
    is_clicked = rng.random(items.shape) < probability
    is_liked = is_clicked & (rng.random(items.shape) < 0.18)
    is_bought = is_clicked & (rng.random(items.shape) < 0.05)
    delay = rng.integers(1_000, 60_000, items.shape)
    return Block(number, users, at_ms, items, probability, is_clicked, is_liked, is_bought, delay)


def _shown(
    world: World, users: NDArray[np.int64], day_index: int, popularity: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Ten different items a request: popular ones, leaning towards the user's taste, in a half-random order."""
    drawn = np.searchsorted(popularity, rng.random((len(users), CANDIDATES)))
    drawn = np.minimum(drawn, len(popularity) - 1)
    taste = np.einsum("nk,nmk->nm", world.user_vectors(users, day_index), world.item_vectors[drawn])
    score = 0.6 * taste + rng.gumbel(size=drawn.shape)
    # A repeated item falls to the end, so that the ten are different whenever enough different ones were drawn.
    order = np.argsort(drawn, axis=1, kind="stable")
    ordered = np.take_along_axis(drawn, order, axis=1)
    again = np.zeros_like(ordered, dtype=bool)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    repeated = np.zeros_like(again)
    np.put_along_axis(repeated, order, again, axis=1)
    score[repeated] -= 1e6
    best = np.argsort(-score, axis=1, kind="stable")[:, :LIST_LENGTH]
    return np.take_along_axis(drawn, best, axis=1)
