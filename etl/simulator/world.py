"""The generated site's users and items: tastes, topics, quality, popularity, and the true probability of a click.

Every array has a random stream of its own, derived from the seed. Tastes drift along a fixed direction, so that any
day can be generated without the days before it.
"""

import math

import numpy as np
from numpy.typing import NDArray

from etl.simulator.settings import SimulatorSettings

Floats = NDArray[np.float32]

LATENT_DIM = 8
TASTE_NORM = 1.6  # length of every taste vector: bounds the logit's taste term to ± TASTE_WEIGHT * 1.6²
DEVICES = ("phone", "desktop", "tablet")
DEVICE_SHARE = (0.62, 0.3, 0.08)
DEVICE_LOGIT = np.array([0.1, 0.0, -0.2])
GENDERS = ("F", "M", None)
AGE_GROUPS = ("18-24", "25-34", "35-44", "45-54", "55+", None)
AGE_SHARE = (0.2, 0.3, 0.2, 0.15, 0.12, 0.03)
CITIES = ("Beijing", "Shanghai", "Shenzhen", "Chengdu", "Wuhan", "Hangzhou", "Xian", "Nanjing")
TOPICS = (
    "music",
    "food",
    "travel",
    "football",
    "film",
    "games",
    "books",
    "fashion",
    "science",
    "cars",
    "garden",
    "politics",
)
# The click model: sigmoid(base + taste + quality + freshness + position + device).
BASE_LOGIT = -2.9
TASTE_WEIGHT = 1.5
TASTE_DEVIATION = 0.7  # of a user's taste from that of their topic
POSITION_LOGIT = -0.16  # per position down the list: position bias


class World:
    """Users and items of one generated site, as arrays indexed by user and item number.

    Args:
        settings: sizes of the site at scale 1.
        scale: multiplies users and traffic; the number of items grows with its square root.
        seed: the same seed and scale give the same arrays.
    """

    def __init__(self, settings: SimulatorSettings, scale: float, seed: int) -> None:
        self.settings, self.scale, self.seed = settings, scale, seed
        self.num_users = max(10, int(settings.users * scale + 0.5))
        self.num_items = max(30, round(settings.items * math.sqrt(scale)))
        self.num_requests = max(10, round(settings.requests_per_day * scale))  # a day
        self.topic_centres: Floats = self.rng(1).normal(0, 1, (settings.topics, LATENT_DIM)).astype(np.float32)
        self._generate_items(self.topic_centres)
        self._generate_users(self.topic_centres)

    def rng(self, *stream: int) -> np.random.Generator:
        """A generator of its own for each purpose, so that a new draw in one place leaves all others as they are."""
        return np.random.default_rng([self.seed, *stream])

    def _generate_items(self, topic_centres: Floats) -> None:
        n = self.num_items
        self.item_topic = self.rng(2).integers(0, self.settings.topics, n)  # (items,)
        noise = self.rng(3).normal(0, 0.5, (n, LATENT_DIM))
        self.item_vectors = _scale_to_norm(topic_centres[self.item_topic] + noise)  # (items, latent)
        self.item_quality = self.rng(4).normal(0, 0.55, n).astype(np.float32)  # (items,) added to the logit
        # Day of publication relative to the site's first day: most items are older, 15 % appear later (cold start).
        rng = self.rng(5)
        past_day = rng.integers(-90, 0, n)
        is_new = rng.random(n) < 0.15
        self.item_birth = np.where(is_new, rng.integers(0, 30, n), past_day)  # (items,)
        # Zipf's law with exponent 0.9; ranks in random order, so that an item's number says nothing of its popularity.
        ranks = self.rng(6).permutation(n) + 1
        self.item_popularity: NDArray[np.float64] = 1.0 / ranks.astype(np.float64) ** 0.9  # (items,) unnormalised

    def _generate_users(self, topic_centres: Floats) -> None:
        n = self.num_users
        self.user_topic = self.rng(7).integers(0, self.settings.topics, n)  # (users,)
        # Gamma with shape < 1: few users make most of the requests, many make hardly any.
        weights = self.rng(8).gamma(0.7, 1.0, n) + 0.02
        self.user_activity: NDArray[np.float64] = np.cumsum(weights / weights.sum())  # (users,) a CDF, for searchsorted
        rng = self.rng(9)
        tastes = topic_centres[self.user_topic] + rng.normal(0, TASTE_DEVIATION, (n, LATENT_DIM))
        self._user_base = tastes.astype(np.float32)
        self._user_drift = rng.normal(0, 0.05, (n, LATENT_DIM)).astype(np.float32)  # (users, latent) a day
        self.user_device = self.rng(10).choice(len(DEVICES), n, p=DEVICE_SHARE)  # (users,)
        self.user_age = self.rng(11).choice(len(AGE_GROUPS), n, p=AGE_SHARE)  # (users,)
        # Gender depends on the favourite topic, so that the profile is worth something to a model; 3 % are unknown.
        rng = self.rng(12)
        male_share = np.where(self.user_topic % 2 == 0, 0.7, 0.3)
        is_male = (rng.random(n) < male_share).astype(np.int64)
        self.user_gender = np.where(rng.random(n) < 0.03, GENDERS.index(None), is_male)  # (users,)

    def user_vectors(self, users: NDArray[np.int64], day_index: int) -> Floats:
        """Tastes as of a day, of the users with these numbers: (n,) -> (n, latent)."""
        tastes = self._user_base[users] + day_index * self._user_drift[users]
        return _scale_to_norm(tastes)

    def item_logits(self, items: NDArray[np.int64], day_index: int | NDArray[np.int64]) -> NDArray[np.float64]:
        """What an item adds to the log odds of a click on a day, whoever sees it; arrays of any shape."""
        age_days = day_index - self.item_birth[items]
        freshness = 0.5 * np.exp(-np.maximum(age_days, 0) / 5.0)  # news fades within about a week
        logits: NDArray[np.float64] = BASE_LOGIT + self.item_quality[items] + freshness
        return logits

    def click_probability(
        self, users: NDArray[np.int64], items: NDArray[np.int64], positions: NDArray[np.int64], day_index: int
    ) -> NDArray[np.float64]:
        """The true probability of a click on each impression, which models try to learn.

        Args:
            users: (n,) user numbers.
            items: (n, m) item numbers.
            positions: (n, m) positions in the list, from 1.
            day_index: days since the site's first day.

        Returns:
            (n, m) probabilities.
        """
        taste = np.einsum("nk,nmk->nm", self.user_vectors(users, day_index), self.item_vectors[items])  # (n, m)
        logit = (
            self.item_logits(items, day_index)
            + TASTE_WEIGHT * taste
            + POSITION_LOGIT * (positions - 1)
            + DEVICE_LOGIT[self.user_device[users]][:, None]  # (n, 1)
        )
        probability: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-logit))
        return probability


def _scale_to_norm(vectors: NDArray[np.floating]) -> Floats:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Floats = (unit * TASTE_NORM).astype(np.float32)
    return scaled
