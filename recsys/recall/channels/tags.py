"""Topic profiles: what is popular within the topics that a user chooses more often than others do."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.recall.history import History, UserBatch
from recsys.recall.kernels import jit, push, sort_heap
from recsys.recall.lists import TopItems, empty_lists, top_items
from recsys.settings import RecallSettings


@dataclass(frozen=True)
class TagsScorer:
    """Topics of the items, how popular each is, and the items' popularity within them."""

    topic: NDArray[np.int32]  # (items,) number of the item's topic, −1: none
    topic_share: NDArray[np.float64]  # (topics,) share of all time-decayed positives
    topic_heat: NDArray[
        np.float64
    ]  # (items,) square root of the item's share of its topic's positives; 0: not proposed
    by_topic: NDArray[np.int32]  # (hot,) items that may be proposed, by topic, then by heat
    bounds: NDArray[np.int64]  # (topics + 1,) where each topic begins in `by_topic`
    strength: float  # of the prior, in positives

    def top_items(self, batch: UserBatch, k: int) -> TopItems:
        """Items by interest in the topic × popularity within it: the topics' orders are merged.

        Interest is the lift of the topic in the user's history, with the overall shares as a prior, so that a short
        history moves it little.
        """
        items, scores, moments = empty_lists(len(batch.users), k)
        interest = np.zeros((len(batch.users), len(self.topic_share)))
        recent, excluded = batch.recent, batch.excluded
        topics = (self.topic, self.topic_share, self.topic_heat, self.by_topic, self.bounds)
        _merge_topics(
            recent.indptr, recent.indices, recent.data, excluded.indptr, excluded.indices, *topics, self.strength,
            interest, items, scores, moments,
        )  # fmt: skip

        def score_pairs(pairs: NDArray[np.int32]) -> NDArray[np.float32]:
            heat = np.where(pairs >= 0, self.topic_heat[pairs], 0.0)
            score = np.take_along_axis(interest, np.maximum(self.topic[pairs], 0), axis=1) * heat
            return np.where(heat > 0, score, -np.inf).astype(np.float32)

        return top_items(items, scores, moments, batch.is_cold, score_pairs)


def fit(history: History, settings: RecallSettings) -> TagsScorer:
    """Compute topic shares from the time-decayed popularity of the items, on the driver."""
    # Sorted, so that topics have the same numbers in every run.
    codes, names = pd.factorize(history.items["category"], sort=True)
    num_topics, has_topic = max(len(names), 1), codes >= 0
    heat_by_topic = np.bincount(codes[has_topic], history.heat[has_topic], num_topics)
    topic_share = heat_by_topic / max(heat_by_topic.sum(), 1e-12)
    within_topic = np.where(has_topic, history.heat / np.maximum(heat_by_topic[codes], 1e-12), 0.0)
    # The root lets a topic's less popular items through: interest shall decide, not one hit.
    topic_heat = np.sqrt(within_topic)
    order = np.lexsort((-topic_heat, codes))
    by_topic = order[topic_heat[order] > 0]
    bounds = np.searchsorted(codes[by_topic], np.arange(num_topics + 1))
    topic = codes.astype(np.int32)
    return TagsScorer(topic, topic_share, topic_heat, by_topic.astype(np.int32), bounds, settings.tag_strength)


@jit
def _merge_topics(  # type: ignore[no-untyped-def]
    indptr, indices, values, excluded_indptr, excluded_indices, topic, topic_share, topic_heat, by_topic, bounds,
    strength, interest, items, scores, moments,
):  # fmt: skip
    """Interests (users, topics), and the best items by merging the topics' orders; see `TagsScorer.top_items`."""
    num_topics = len(topic_share)
    heat_sums, heat_squares = np.zeros(num_topics), np.zeros(num_topics)
    for number in range(num_topics):
        for position in range(bounds[number], bounds[number + 1]):
            heat_sums[number] += topic_heat[by_topic[position]]
            heat_squares[number] += topic_heat[by_topic[position]] ** 2
    is_excluded = np.full(len(topic), -1, np.int32)  # the last row that excludes the item
    for row in range(len(items)):
        total = 0.0
        for entry in range(indptr[row], indptr[row + 1]):
            if topic[indices[entry]] >= 0:
                interest[row, topic[indices[entry]]] += values[entry]
                total += values[entry]
        for entry in range(excluded_indptr[row], excluded_indptr[row + 1]):
            is_excluded[excluded_indices[entry]] = row
        best_scores, best_items = scores[row], items[row]
        size = 0
        for number in range(num_topics):
            share = (interest[row, number] + strength * topic_share[number]) / (total + strength)
            lift = share / max(topic_share[number], 1e-9)
            interest[row, number] = lift
            moments[row, 0] += bounds[number + 1] - bounds[number]
            moments[row, 1] += lift * heat_sums[number]
            moments[row, 2] += lift * lift * heat_squares[number]
            for position in range(bounds[number], bounds[number + 1]):
                item = by_topic[position]
                score = np.float32(lift * topic_heat[item])
                if size == len(best_scores) and score < best_scores[0]:  # all further ones of the topic are worse
                    break
                if is_excluded[item] != row:
                    size = push(best_scores, best_items, size, score, item)
        sort_heap(best_scores, best_items, size)
        for entry in range(excluded_indptr[row], excluded_indptr[row + 1]):
            item = excluded_indices[entry]
            if topic_heat[item] > 0:
                score = interest[row, topic[item]] * topic_heat[item]
                moments[row, 0] -= 1
                moments[row, 1] -= score
                moments[row, 2] -= score * score
