"""New items with exploration: each user gets a different draw of them, the newest most often.

Nothing is known about an item that nobody saw; showing different ones to different people finds out.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.recall.history import SECONDS_PER_DAY, Batch, History
from recsys.settings import RecallSettings


@dataclass(frozen=True)
class NewItems:
    """`freshness` (items,) from 1 for just out down to 0, and 0 for items that are not new."""

    freshness: NDArray[np.float32]
    seed: int

    def score(self, batch: Batch) -> NDArray[np.float32]:
        """Freshness to the power of an exponential draw: a weighted sample without repeats (Efraimidis 2006)."""
        draws = np.array([self._draws(user) for user in batch.users]).reshape(len(batch.users), len(self.freshness))
        logs = np.log(np.maximum(self.freshness, 1e-9))
        return np.where(self.freshness > 0, logs + draws, -np.inf).astype(np.float32)

    def _draws(self, user: object) -> NDArray[np.float64]:
        number = int(pd.util.hash_array(np.array([str(user)], dtype=object))[0])
        return np.random.default_rng([self.seed, number]).gumbel(size=len(self.freshness))


def fit(history: History, settings: RecallSettings) -> NewItems:
    """Items that were published (or, without a date, first chosen) in the last `new_days`."""
    published = pd.to_datetime(history.items["published_at"]).fillna(pd.to_datetime(history.items["first_at"]))
    seconds = (published - pd.Timestamp(0)).dt.total_seconds().to_numpy(dtype=float, na_value=np.nan)
    age = (history.now - seconds) / SECONDS_PER_DAY
    is_new = (age >= 0) & (age <= settings.new_days)
    return NewItems(np.where(is_new, np.exp(-age / settings.new_days), 0.0).astype(np.float32), settings.seed)
