"""Exploration of new items: each user gets a different random sample of them, the newest most often.

There is no feedback on an item that nobody saw; showing different ones to different people collects it.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.recall.history import SECONDS_PER_DAY, History, UserBatch
from recsys.settings import RecallSettings


@dataclass(frozen=True)
class NewItemsScorer:
    """How new each item is, as the weight with which it is sampled."""

    freshness: NDArray[np.float32]  # (items,) 1 for just published, falling with age; 0: not new
    seed: int

    def score(self, batch: UserBatch) -> NDArray[np.float32]:
        """Random scores (users, items) whose ranking is a weighted sample without replacement; −inf if not new.

        log weight + Gumbel noise: the log of Efraimidis and Spirakis' keys (2006).
        """
        noise = np.array([self._noise(user) for user in batch.users]).reshape(len(batch.users), len(self.freshness))
        log_weights = np.log(np.maximum(self.freshness, 1e-9))
        return np.where(self.freshness > 0, log_weights + noise, -np.inf).astype(np.float32)

    def _noise(self, user: object) -> NDArray[np.float64]:
        """(items,) by a hash of the user's id: the same in every run and every batch."""
        number = int(pd.util.hash_array(np.array([str(user)], dtype=object))[0])
        return np.random.default_rng([self.seed, number]).gumbel(size=len(self.freshness))


def fit(history: History, settings: RecallSettings) -> NewItemsScorer:
    """Weight the items published in the last `new_days`; an item without a date counts from its first positive."""
    published = pd.to_datetime(history.items["published_at"]).fillna(pd.to_datetime(history.items["first_at"]))
    seconds = (published - pd.Timestamp(0)).dt.total_seconds().to_numpy(dtype=float, na_value=np.nan)
    age = (history.now - seconds) / SECONDS_PER_DAY  # (items,) NaN without either date: not new
    is_new = (age >= 0) & (age <= settings.new_days)
    return NewItemsScorer(np.where(is_new, np.exp(-age / settings.new_days), 0.0).astype(np.float32), settings.seed)
