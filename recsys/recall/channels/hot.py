"""Hot items: those with most positives, old ones counting less. Cold users get these too."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.recall.history import Batch, History
from recsys.settings import RecallSettings


@dataclass(frozen=True)
class Hot:
    """The same for everybody."""

    heat: NDArray[np.float32]

    def score(self, batch: Batch) -> NDArray[np.float32]:
        """Heat of each item; one that nobody chose is not hot."""
        heat = np.where(self.heat > 0, self.heat, -np.inf).astype(np.float32)
        return np.repeat(heat[None], len(batch.users), axis=0)


def fit(history: History, settings: RecallSettings) -> Hot:
    """Decayed counts."""
    return Hot(history.heat.astype(np.float32))
