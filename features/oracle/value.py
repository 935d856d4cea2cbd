"""What lists are worth: the clicks to expect of them by the true probabilities, on a scale from random to the best."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from etl.simulator.world import POSITION_LOGIT, World
from features.oracle.impressions import numbers

Floats = NDArray[np.float64]

MAX_CELLS = 4_000_000  # of a matrix (users, items)


class ListValue:
    """Expected clicks of lists of one day's users, relative to those of random and of the best lists.

    Attributes:
        users: (users,) numbers of the users whose lists are judged.
        random: (users,) expected clicks of a list of random published items.
        best: (users,) of the published items with the highest probabilities.
    """

    def __init__(self, world: World, users: NDArray[np.int64], day_index: int, length: int) -> None:
        self.world, self.users, self.day_index, self.length = world, users, day_index, length
        self.random, self.best = np.empty(len(users)), np.empty(len(users))
        published = np.flatnonzero(world.item_birth <= day_index)
        size = max(1, MAX_CELLS // len(published))
        for block in (slice(start, start + size) for start in range(0, len(users), size)):
            self.random[block], self.best[block] = self._bounds(users[block], published)

    def expected_clicks(self, users: NDArray[np.int64], lists: NDArray[np.int64]) -> Floats:
        """(n,) clicks to expect of `lists` (n, length) of item numbers, −1 where a list is shorter."""
        positions = np.broadcast_to(np.arange(1, lists.shape[1] + 1), lists.shape)
        probability = self.world.click_probability(users, np.maximum(lists, 0), positions, self.day_index)
        return np.asarray(np.where(lists >= 0, probability, 0.0).sum(axis=1))

    def share(self, lists: NDArray[np.int64], weight: Floats | None = None) -> float:
        """Share of the way from random lists to the best, of clicks summed over the users.

        Args:
            lists: (users, length) in the order of `users`; −1 where a list is shorter.
            weight: (users,) such as their requests; every user counts alike without.
        """
        weight = np.ones(len(self.users)) if weight is None else weight
        clicks = self.expected_clicks(self.users, lists)
        span = weight @ (self.best - self.random)
        return float(weight @ (clicks - self.random) / span) if span > 0 else 0.0

    def lists_of(self, ranked: pd.DataFrame) -> NDArray[np.int64]:
        """Lay out rows of user_id, item_id and rank (from 1): (users, length) item numbers, −1 for none."""
        lists = np.full((len(self.users), self.length), -1)
        user, item, rank = numbers(ranked["user_id"]), numbers(ranked["item_id"]), ranked["rank"].to_numpy(np.int64)
        row = np.minimum(np.searchsorted(self.users, user), len(self.users) - 1)
        is_used = (self.users[row] == user) & (rank <= self.length)
        lists[row[is_used], rank[is_used] - 1] = item[is_used]
        return lists

    def _bounds(self, users: NDArray[np.int64], items: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """Expected clicks of a random and of the best list of `items`, for each of some users."""
        place = np.arange(1, min(self.length, len(items)) + 1)
        first = np.ones((1, 1), np.int64)
        items = np.broadcast_to(items, (len(users), len(items)))
        probability = self.world.click_probability(users, items, first, self.day_index)  # (users, items)
        # Places only shift the log odds: the order of the items is the same at each.
        top = np.argsort(-probability, axis=1, kind="stable")[:, : len(place)]
        odds = probability / (1 - probability)
        shift = np.exp(POSITION_LOGIT * (place - 1))
        random = sum((odds * factor / (1 + odds * factor)).mean(axis=1) for factor in shift)
        return np.asarray(random), self.expected_clicks(users, np.take_along_axis(items, top, axis=1))
