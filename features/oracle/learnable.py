"""What a generated site's data allow to learn: a Bayesian who knows all items, and of each user only their impressions.

No model of the same data is expected to rank better: what lies between it and the true probabilities is noise. Tastes
are drawn from their posterior by Metropolis and Hastings' algorithm, several chains a user.
"""

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from etl.simulator.world import DEVICE_LOGIT, POSITION_LOGIT, TASTE_DEVIATION, TASTE_NORM, TASTE_WEIGHT, World
from features.oracle.impressions import Impressions

CHAINS = 16
STEPS = 80
NUM_STARTS = 64  # draws from the prior, of which each chain's first state is one, drawn by its likelihood
STEP_SIZES = (0.5, 0.15, 0.3)  # of the prior's deviation, in turns: wide ones leave a mode, narrow ones explore it

Floats = NDArray[np.float32]


def posterior_tastes(world: World, impressions: Impressions, users: NDArray[np.int64]) -> Floats:
    """Draw the tastes of users from their posterior.

    Args:
        world: the site, whose items are known.
        impressions: what was learned from, of these users alone, sorted by user.
        users: (users,) numbers, ascending.

    Returns:
        (users, CHAINS, latent); the same in every run.
    """
    starts = np.searchsorted(impressions.user, np.append(users, world.num_users))
    offset = impression_logits(world, impressions)
    vectors = np.ascontiguousarray(world.item_vectors[impressions.item], np.float32)
    tastes = np.empty((len(users), CHAINS, vectors.shape[1]), np.float32)
    sizes = np.array(STEP_SIZES)
    _sample(starts, vectors, offset, impressions.is_clicked, world.topic_centres, sizes, world.seed, tastes)
    return tastes


def impression_logits(world: World, impressions: Impressions) -> NDArray[np.float64]:
    """(rows,) log odds of a click without the user's taste."""
    logits: NDArray[np.float64] = (
        world.item_logits(impressions.item, impressions.day_index)
        + POSITION_LOGIT * (impressions.position - 1)
        + DEVICE_LOGIT[world.user_device[impressions.user]]
    )
    return logits


def click_probability(world: World, impressions: Impressions, tastes: Floats, users: NDArray[np.int64]) -> Floats:
    """(rows,) probability of a click, averaged over the draws of the user's taste."""
    drawn = tastes[np.searchsorted(users, impressions.user)]  # (rows, chains, latent)
    taste = np.einsum("rck,rk->rc", drawn, world.item_vectors[impressions.item])
    logits = impression_logits(world, impressions)[:, None] + TASTE_WEIGHT * taste
    mean: Floats = (1 / (1 + np.exp(-logits))).mean(axis=1)
    return mean


def best_lists(
    world: World, tastes: Floats, users: NDArray[np.int64], day_index: int, length: int
) -> NDArray[np.int64]:
    """(users, length) the published items with the highest probabilities, as far as they can be learned."""
    items = np.flatnonzero(world.item_birth <= day_index)
    logits = world.item_logits(items, day_index)  # (items,)
    lists = np.empty((len(users), min(length, len(items))), np.int64)
    for row, chains in enumerate(tastes):
        taste = chains @ world.item_vectors[items].T  # (chains, items)
        device = DEVICE_LOGIT[world.user_device[users[row]]]
        probability = (1 / (1 + np.exp(-(logits + device + TASTE_WEIGHT * taste)))).mean(axis=0)
        lists[row] = items[np.argsort(-probability, kind="stable")[:length]]
    return lists


@njit(cache=True)
def _log_likelihood(base, vectors, offset, is_clicked):  # type: ignore[no-untyped-def]  # compiled
    """Of a user's clicks, for a taste before it is scaled to its length."""
    length = np.sqrt((base * base).sum())
    total = 0.0
    for r in range(len(offset)):
        dot = 0.0
        for k in range(len(base)):
            dot += base[k] * vectors[r, k]
        logit = offset[r] + TASTE_WEIGHT * TASTE_NORM * dot / length
        total -= np.log1p(np.exp(-logit if is_clicked[r] else logit))
    return total


@njit(parallel=True, cache=True)
def _sample(starts, vectors, offset, is_clicked, centres, sizes, seed, tastes):  # type: ignore[no-untyped-def]
    """Run the chains of every user; the prior of a taste is normal around the centre of a topic, all alike likely."""
    topics, latent = centres.shape
    chains = tastes.shape[1]
    for user in prange(len(starts) - 1):
        np.random.seed(seed * 1_000_003 + user)  # of this thread: a user's draws do not depend on the others
        rows = slice(starts[user], starts[user + 1])
        v, o, c = vectors[rows], offset[rows], is_clicked[rows]
        start_base = np.empty((NUM_STARTS, latent))
        start_topic = np.empty(NUM_STARTS, np.int64)
        start_value = np.empty(NUM_STARTS)
        for i in range(NUM_STARTS):
            start_topic[i] = np.random.randint(topics)
            for k in range(latent):
                start_base[i, k] = centres[start_topic[i], k] + TASTE_DEVIATION * np.random.normal()
            start_value[i] = _log_likelihood(start_base[i], v, o, c)
        share = np.exp(start_value - start_value.max()).cumsum()
        for chain in range(chains):
            first = min(np.searchsorted(share, np.random.random() * share[-1]), NUM_STARTS - 1)
            base, topic, value = start_base[first].copy(), start_topic[first], start_value[first]
            proposal = np.empty(latent)
            for step in range(STEPS):
                # Every fourth step goes to any topic: the posterior of a user with few impressions has many modes.
                size, other = sizes[step % len(sizes)], topic if step % 4 else np.random.randint(topics)
                stay = np.sqrt(1 - size * size)
                for k in range(latent):
                    noise = size * TASTE_DEVIATION * np.random.normal()
                    proposal[k] = centres[other, k] + stay * (base[k] - centres[topic, k]) + noise
                proposed = _log_likelihood(proposal, v, o, c)
                if np.log(np.random.random()) < proposed - value:
                    base, topic, value = proposal.copy(), other, proposed
            length = np.sqrt((base * base).sum())
            for k in range(latent):
                tastes[user, chain, k] = TASTE_NORM * base[k] / length
