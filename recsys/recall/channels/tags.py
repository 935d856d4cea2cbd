"""Profile tags: what is hot within the topics that the user chooses more often than others do."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from recsys.recall.history import Batch, History
from recsys.settings import RecallSettings


@dataclass(frozen=True)
class Tags:
    """`tag` (items, tags) ones; `usual` (tags,) shares of all choices; `heat` (items,) share of its tag's heat."""

    tag: sparse.csr_matrix
    usual: NDArray[np.float64]
    heat: NDArray[np.float64]
    strength: float

    def score(self, batch: Batch) -> NDArray[np.float32]:
        """Interest in the item's tag × its place in the tag. Interest: the user's share, pulled to the usual one."""
        counts = (batch.recent @ self.tag).toarray()
        total = counts.sum(axis=1, keepdims=True)
        interest = (counts + self.strength * self.usual) / (total + self.strength) / np.maximum(self.usual, 1e-9)
        scores = (self.tag @ interest.T).T * self.heat[None]
        tagged = np.asarray(self.tag.sum(axis=1)).ravel() > 0
        return batch.nothing_for_cold(np.where(tagged[None] & (self.heat[None] > 0), scores, -np.inf))


def fit(history: History, settings: RecallSettings) -> Tags:
    """Shares from the decayed counts; an item without a category has no tag."""
    codes, names = pd.factorize(history.items["category"], sort=True)
    tagged = np.flatnonzero(codes >= 0)
    shape = (history.num_items, max(len(names), 1))
    tag = sparse.csr_matrix((np.ones(len(tagged)), (tagged, codes[tagged])), shape=shape)
    of_tag = tag.T @ history.heat
    usual = of_tag / max(of_tag.sum(), 1e-12)
    within = history.heat / np.maximum(tag @ of_tag, 1e-12)
    return Tags(tag, usual, np.sqrt(within), settings.tag_strength)
