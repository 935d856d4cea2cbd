"""Topic profiles: what is popular within the topics that a user chooses more often than others do."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from recsys.recall.history import History, UserBatch
from recsys.settings import RecallSettings


@dataclass(frozen=True)
class TagsScorer:
    """Topics of the items, how popular each is, and the items' popularity within them."""

    topics: sparse.csr_matrix  # (items, topics) ones; an item without a category has none
    topic_share: NDArray[np.float64]  # (topics,) share of all time-decayed positives
    topic_heat: NDArray[np.float64]  # (items,) square root of the item's share of its topic's positives
    strength: float  # of the prior, in positives

    def score(self, batch: UserBatch) -> NDArray[np.float32]:
        """Interest in the item's topic × the item's popularity within it; (users, items).

        Interest is the lift of the topic in the user's history, with the overall shares as a prior, so that a short
        history moves it little.
        """
        counts = (batch.recent @ self.topics).toarray()  # (users, topics)
        total = counts.sum(axis=1, keepdims=True)
        share = (counts + self.strength * self.topic_share) / (total + self.strength)
        interest = share / np.maximum(self.topic_share, 1e-9)
        scores = (self.topics @ interest.T).T * self.topic_heat[None]
        has_topic = np.asarray(self.topics.sum(axis=1)).ravel() > 0
        return batch.mask_cold(np.where(has_topic[None] & (self.topic_heat[None] > 0), scores, -np.inf))


def fit(history: History, settings: RecallSettings) -> TagsScorer:
    """Compute topic shares from the time-decayed popularity of the items, on the driver."""
    # Sorted, so that topics have the same numbers in every run.
    codes, names = pd.factorize(history.items["category"], sort=True)
    has_category = np.flatnonzero(codes >= 0)
    shape = (history.num_items, max(len(names), 1))
    topics = sparse.csr_matrix((np.ones(len(has_category)), (has_category, codes[has_category])), shape=shape)
    heat_by_topic = topics.T @ history.heat
    topic_share = heat_by_topic / max(heat_by_topic.sum(), 1e-12)
    within_topic = history.heat / np.maximum(topics @ heat_by_topic, 1e-12)
    # The root lets a topic's less popular items through: interest shall decide, not one hit.
    return TagsScorer(topics, topic_share, np.sqrt(within_topic), settings.tag_strength)
