"""Popular items: those with most positives, old ones counting less. Cold users get these too."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.recall.history import History, UserBatch
from recsys.settings import RecallSettings


@dataclass(frozen=True)
class HotScorer:
    """Time-decayed popularity, the same for everybody."""

    heat: NDArray[np.float32]  # (items,)

    def score(self, batch: UserBatch) -> NDArray[np.float32]:
        """Heat of each item (users, items); −inf for one that nobody chose."""
        heat = np.where(self.heat > 0, self.heat, -np.inf).astype(np.float32)
        return np.repeat(heat[None], len(batch.users), axis=0)


def fit(history: History, settings: RecallSettings) -> HotScorer:
    """Sum the positives of each item, halved every `half_life_days`; one shuffle by item."""
    return HotScorer(history.heat.astype(np.float32))
