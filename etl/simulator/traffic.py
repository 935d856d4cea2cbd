"""One day of the site: who came when, what was shown, what was clicked, liked and bought.

Generated in blocks of requests, so that memory depends on the block and not on the scale or the number of days.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from etl.simulator.published import PublishedLists
from etl.simulator.world import World

LIST_LENGTH = 10
NUM_CANDIDATES = 30
TASTE_WEIGHT = 0.6  # of the site's recommender
BLOCK_SIZE = 20_000
# Share of the traffic in each hour, UTC.
HOURS = np.array([2, 1, 1, 1, 1, 2, 3, 5, 6, 5, 5, 5, 6, 5, 4, 4, 4, 5, 6, 7, 8, 7, 5, 3], dtype=np.float64)
MS_PER_DAY = 86_400_000


@dataclass(frozen=True)
class RequestBlock:
    """Some of a day's requests: arrays over n requests, and (n, 10) for the list that each was answered with."""

    number: int
    users: NDArray[np.int64]  # (n,)
    at_ms: NDArray[np.int64]  # (n,) milliseconds since midnight, ascending
    items: NDArray[np.int64]  # (n, 10)
    probability: NDArray[np.float64]  # (n, 10) the true click probability
    is_clicked: NDArray[np.bool_]  # (n, 10)
    is_liked: NDArray[np.bool_]  # (n, 10) a subset of the clicks
    is_bought: NDArray[np.bool_]  # (n, 10) a subset of the clicks
    click_delay_ms: NDArray[np.int64]  # (n, 10) from the request to the click
    propensity: NDArray[np.float64]  # (n, 10) of published lists; NaN of the site's own, see `block_propensities`

    @property
    def is_published(self) -> NDArray[np.bool_]:
        """(n,) whether a request was answered with a published list, and not by the site's own recommender."""
        return ~np.isnan(self.propensity[:, 0])


def request_blocks(world: World, day_index: int, lists: PublishedLists | None = None) -> Iterator[RequestBlock]:
    """Generate the requests of a day, block by block.

    Each block has a random stream of its own: the same seed, scale and day give the same block, whichever blocks were
    generated before it.

    Args:
        world: users and items.
        day_index: days since the site's first day.
        lists: published lists, for the users that are assigned to them; the others' requests are the same without.

    Yields:
        Blocks of at most `BLOCK_SIZE` requests.
    """
    published = np.where(world.item_birth <= day_index, world.item_popularity, 0.0)  # (items,)
    popularity_cdf = np.cumsum(published / published.sum())
    for number, first in enumerate(range(0, world.num_requests, BLOCK_SIZE)):
        rng = world.rng(100, day_index, number)
        size = min(BLOCK_SIZE, world.num_requests - first)
        yield _generate_block(world, day_index, number, size, popularity_cdf, rng, lists)


def _generate_block(
    world: World,
    day_index: int,
    number: int,
    n: int,
    popularity_cdf: NDArray[np.float64],
    rng: np.random.Generator,
    lists: PublishedLists | None,
) -> RequestBlock:
    # Inverse transform sampling; `minimum` guards against a CDF whose last value is just below 1.
    users = np.minimum(np.searchsorted(world.user_activity, rng.random(n)), world.num_users - 1)
    hour = rng.choice(24, n, p=HOURS / HOURS.sum())
    at_ms = np.sort(hour * 3_600_000 + rng.integers(0, 3_600_000, n))
    at_ms = np.minimum(at_ms, MS_PER_DAY - 1)
    items = _recommend(world, users, day_index, popularity_cdf, rng)
    propensity = np.full(items.shape, np.nan)
    if lists is not None:
        rows = np.flatnonzero(lists.is_assigned[users])
        items[rows], propensity[rows] = lists.explored(users[rows], world.rng(600, day_index, number))
    positions = np.broadcast_to(np.arange(1, LIST_LENGTH + 1), items.shape)  # (n, 10)
    probability = world.click_probability(users, items, positions, day_index)
    is_clicked = rng.random(items.shape) < probability
    is_liked = is_clicked & (rng.random(items.shape) < 0.18)
    is_bought = is_clicked & (rng.random(items.shape) < 0.05)
    delay = rng.integers(1_000, 60_000, items.shape)
    return RequestBlock(number, users, at_ms, items, probability, is_clicked, is_liked, is_bought, delay, propensity)


def _recommend(
    world: World,
    users: NDArray[np.int64],
    day_index: int,
    popularity_cdf: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """The site's own recommender: popular items, leaning towards the user's taste, in a half-random order: (n, 10)."""
    candidates = np.searchsorted(popularity_cdf, rng.random((len(users), NUM_CANDIDATES)))  # (n, 30)
    candidates = np.minimum(candidates, len(popularity_cdf) - 1)
    taste = np.einsum("nk,nmk->nm", world.user_vectors(users, day_index), world.item_vectors[candidates])
    # Gumbel noise makes the top 10 a sample without replacement from softmax(TASTE_WEIGHT * taste).
    score = TASTE_WEIGHT * taste + rng.gumbel(size=candidates.shape)
    # Candidates repeat; a repeated item goes last, so that the ten differ wherever enough candidates differ.
    score[mark_repeated(candidates)] -= 1e6
    best = np.argsort(-score, axis=1, kind="stable")[:, :LIST_LENGTH]
    return np.take_along_axis(candidates, best, axis=1)


def mark_repeated(candidates: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which candidates (n, m) stand earlier in their row already."""
    order = np.argsort(candidates, axis=1, kind="stable")
    ordered = np.take_along_axis(candidates, order, axis=1)
    equals_previous = np.zeros_like(ordered, dtype=bool)
    equals_previous[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    is_repeated = np.zeros_like(equals_previous)
    np.put_along_axis(is_repeated, order, equals_previous, axis=1)
    return is_repeated
