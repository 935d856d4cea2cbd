"""The generated site's people and things: tastes, topics, quality, popularity, and the true probability of a click.

Everything follows from the seed. A day can be drawn without the days before it: tastes drift along a fixed direction.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from etl.settings import SimulatorSettings

Floats = NDArray[np.float32]

LATENT = 8
DEVICES = ("phone", "desktop", "tablet")
DEVICE_SHARE = (0.62, 0.3, 0.08)
DEVICE_LOGIT = np.array([0.1, 0.0, -0.2])
GENDERS = ("F", "M", None)
AGE_GROUPS = ("18-24", "25-34", "35-44", "45-54", "55+", None)
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
BASE_LOGIT = -2.9
TASTE_WEIGHT = 1.5
POSITION_LOGIT = -0.16


@dataclass(frozen=True)
class World:
    """Users and items of one site; `scale` multiplies users and traffic, items grow with its square root."""

    settings: SimulatorSettings
    scale: float
    seed: int

    @property
    def num_users(self) -> int:
        return max(10, int(self.settings.users * self.scale + 0.5))

    @property
    def num_items(self) -> int:
        return max(30, round(self.settings.items * math.sqrt(self.scale)))

    @property
    def num_requests(self) -> int:
        return max(10, round(self.settings.requests_per_day * self.scale))

    def rng(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *stream])

    # --- items ---

    @cached_property
    def topic_centres(self) -> Floats:
        return self.rng(1).normal(0, 1, (self.settings.topics, LATENT)).astype(np.float32)

    @cached_property
    def item_topic(self) -> NDArray[np.int64]:
        return self.rng(2).integers(0, self.settings.topics, self.num_items)

    @cached_property
    def item_vectors(self) -> Floats:
        noise = self.rng(3).normal(0, 0.5, (self.num_items, LATENT))
        return _unit(self.topic_centres[self.item_topic] + noise)

    @cached_property
    def item_quality(self) -> Floats:
        return self.rng(4).normal(0, 0.55, self.num_items).astype(np.float32)

    @cached_property
    def item_birth(self) -> NDArray[np.int64]:
        """Day of appearance relative to the first day; most items are older than the site's first day."""
        rng = self.rng(5)
        born = rng.integers(-90, 0, self.num_items)
        new = rng.random(self.num_items) < 0.15
        return np.where(new, rng.integers(0, 30, self.num_items), born)

    @cached_property
    def item_popularity(self) -> NDArray[np.float64]:
        """Zipf weights in random order of items."""
        ranks = self.rng(6).permutation(self.num_items) + 1
        weights: NDArray[np.float64] = 1.0 / ranks.astype(np.float64) ** 0.9
        return weights

    # --- users ---

    @cached_property
    def user_topic(self) -> NDArray[np.int64]:
        return self.rng(7).integers(0, self.settings.topics, self.num_users)

    @cached_property
    def user_activity(self) -> NDArray[np.float64]:
        weights = self.rng(8).gamma(0.7, 1.0, self.num_users) + 0.02
        return np.cumsum(weights / weights.sum())

    @cached_property
    def _user_base(self) -> tuple[Floats, Floats]:
        rng = self.rng(9)
        base = self.topic_centres[self.user_topic] + rng.normal(0, 0.7, (self.num_users, LATENT))
        drift = rng.normal(0, 0.05, (self.num_users, LATENT))
        return base.astype(np.float32), drift.astype(np.float32)

    def user_vectors(self, users: NDArray[np.int64], day_index: int) -> Floats:
        base, drift = self._user_base
        return _unit(base[users] + day_index * drift[users])

    @cached_property
    def user_device(self) -> NDArray[np.int64]:
        return self.rng(10).choice(len(DEVICES), self.num_users, p=DEVICE_SHARE)

    @cached_property
    def user_age(self) -> NDArray[np.int64]:
        return self.rng(11).choice(len(AGE_GROUPS), self.num_users, p=(0.2, 0.3, 0.2, 0.15, 0.12, 0.03))

    @cached_property
    def user_gender(self) -> NDArray[np.int64]:
        """Tied to taste a little, so that the profile is worth something to a model."""
        rng = self.rng(12)
        share = np.where(self.user_topic % 2 == 0, 0.7, 0.3)
        drawn = (rng.random(self.num_users) < share).astype(np.int64)
        return np.where(rng.random(self.num_users) < 0.03, 2, drawn)

    # --- what happens when an item is shown ---

    def click_probability(
        self, users: NDArray[np.int64], items: NDArray[np.int64], positions: NDArray[np.int64], day_index: int
    ) -> NDArray[np.float64]:
        """The truth that models try to learn. `users` (n,), `items` and `positions` (n, m) -> (n, m)."""
        taste = np.einsum("nk,nmk->nm", self.user_vectors(users, day_index), self.item_vectors[items])
        age_days = day_index - self.item_birth[items]
        freshness = 0.5 * np.exp(-np.maximum(age_days, 0) / 5.0)
        logit = (
            BASE_LOGIT
            + TASTE_WEIGHT * taste
            + self.item_quality[items]
            + freshness
            + POSITION_LOGIT * (positions - 1)
            + DEVICE_LOGIT[self.user_device[users]][:, None]
        )
        probability: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-logit))
        return probability


def _unit(vectors: NDArray[np.floating]) -> Floats:
    scaled: Floats = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True) * 1.6).astype(np.float32)
    return scaled
