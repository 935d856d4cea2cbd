"""With what probability the site showed an item to a user at a place: what a site that randomises knows, and logs."""

import numpy as np
from numpy.typing import NDArray

from etl.simulator.traffic import LIST_LENGTH, NUM_CANDIDATES, TASTE_WEIGHT, RequestBlock, mark_repeated
from etl.simulator.world import World

Floats = NDArray[np.float64]

CANDIDATE_SETS = 100  # a user's, that probabilities are means over: sums of 1 / propensity are right to 1 %
USERS_AT_A_TIME = 500  # 12 MB of float64 an array of their sets of candidates
MIN_PROPENSITY = 1e-9  # a mean over sets may round to 0, and what was shown had a chance


def block_propensities(world: World, block: RequestBlock, day_index: int) -> Floats:
    """(n, 10) probability that each item of the block is shown to its user at its place.

    An item is shown at a place if it is among the candidates, and its noisy score falls between those of two rivals.
    By the distribution of the noise, and as a mean over sets of rivals that are drawn as the site draws them.

    Args:
        world: users and items.
        block: requests of the day.
        day_index: days since the site's first day.
    """
    rng = world.rng(400, day_index, block.number)
    share = np.where(world.item_birth <= day_index, world.item_popularity, 0.0)
    share = share / share.sum()
    users, request_user = np.unique(block.users, return_inverse=True)
    result = np.empty(block.items.shape)
    for first in range(0, len(users), USERS_AT_A_TIME):
        some = users[first : first + USERS_AT_A_TIME]
        requests = np.flatnonzero((request_user >= first) & (request_user < first + len(some)))
        rivals, scores = _best_rivals(world, some, day_index, share, rng)
        vectors = world.user_vectors(block.users[requests], day_index)
        taste = TASTE_WEIGHT * np.einsum("nk,nmk->nm", vectors, world.item_vectors[block.items[requests]])
        for place in range(LIST_LENGTH):
            user = request_user[requests] - first
            result[requests, place] = _between_rivals(
                block.items[requests, place], taste[:, place], rivals[user], scores[user], place
            )
    is_candidate = 1 - (1 - share[block.items]) ** NUM_CANDIDATES
    return np.asarray(np.maximum(result * is_candidate, MIN_PROPENSITY))


def _best_rivals(
    world: World, users: NDArray[np.int64], day_index: int, share: Floats, rng: np.random.Generator
) -> tuple[NDArray[np.int64], Floats]:
    """Items and noisy scores of the best of an item's rivals, best first: (users, sets, 11), the 11th for a place."""
    shape = (len(users), CANDIDATE_SETS, NUM_CANDIDATES - 1)
    cdf = np.cumsum(share)
    items = np.minimum(np.searchsorted(cdf, rng.random(shape)), len(cdf) - 1)
    tastes = TASTE_WEIGHT * (world.user_vectors(users, day_index) @ world.item_vectors.T)  # (users, items)
    score = np.take_along_axis(tastes[:, None, :], items, axis=2) + rng.gumbel(size=shape)
    flat = items.reshape(-1, shape[2])
    score[mark_repeated(flat).reshape(shape)] -= 1e6
    best = np.argsort(-score, axis=2)[:, :, : LIST_LENGTH + 1]
    return np.take_along_axis(items, best, axis=2), np.take_along_axis(score, best, axis=2)


def _between_rivals(
    item: NDArray[np.int64], taste: Floats, rivals: NDArray[np.int64], scores: Floats, place: int
) -> Floats:
    """(n,) mean probability over the sets that the noise puts an item between the rivals at `place` - 1 and `place`.

    Args:
        item: (n,).
        taste: (n,) its score without noise.
        rivals: (n, sets, 11) items.
        scores: (n, sets, 11) their noisy scores, best first.
        place: from 0.
    """
    is_itself = rivals == item[:, None, None]

    def exceeds(rank: int) -> Floats:
        """Probability of a better score than the rival's of that rank, leaving the item itself out."""
        follows = is_itself[:, :, : rank + 1].any(axis=2)
        bound = np.where(follows, scores[:, :, rank + 1], scores[:, :, rank])
        # The CDF of the Gumbel distribution is exp(-exp(-x)).
        return np.asarray(-np.expm1(-np.exp(np.minimum(taste[:, None] - bound, 700.0))))

    return np.asarray((exceeds(place) - (exceeds(place - 1) if place else 0.0)).mean(axis=1))
