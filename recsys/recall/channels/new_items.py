"""Exploration of new items: each user gets a different random sample of them, the newest most often.

There is no feedback on an item that nobody saw; showing different ones to different people collects it.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.recall.history import SECONDS_PER_DAY, History, UserBatch
from recsys.recall.kernels import jit, push, sort_heap
from recsys.recall.lists import TopItems, empty_lists, top_items
from recsys.settings import RecallSettings


@dataclass(frozen=True)
class NewItemsScorer:
    """How new each item is, as the weight with which it is sampled."""

    log_weight: NDArray[np.float64]  # (items,) 0 for just published, falling with age; −inf: not new
    fresh: NDArray[np.int32]  # numbers of the new items
    item_hash: NDArray[np.uint64]  # (items,) of the item's id
    seed: int

    def top_items(self, batch: UserBatch, k: int) -> TopItems:
        """Random scores whose ranking is a weighted sample without replacement.

        log weight + Gumbel noise: the log of Efraimidis and Spirakis' keys (2006). The noise is a hash of user and
        item: the same in every run and every batch.
        """
        users = hash_ids(batch.users) ^ np.uint64(self.seed * 0x9E3779B97F4A7C15 % 2**64)
        items, scores, moments = empty_lists(len(users), k)
        weights = (self.log_weight, self.item_hash)
        history = (batch.chosen.indptr, batch.chosen.indices)
        _sample(users, self.fresh, *weights, *history, items, scores, moments)

        def score_pairs(pairs: NDArray[np.int32]) -> NDArray[np.float32]:
            values = np.empty(pairs.shape, np.float32)
            _noisy_pairs(users, *weights, pairs, values)
            return values

        return top_items(items, scores, moments, None, score_pairs)


def fit(history: History, settings: RecallSettings) -> NewItemsScorer:
    """Weight the items published in the last `new_days`; an item without a date counts from its first positive."""
    published = pd.to_datetime(history.items["published_at"]).fillna(pd.to_datetime(history.items["first_at"]))
    seconds = (published - pd.Timestamp(0)).dt.total_seconds().to_numpy(dtype=float, na_value=np.nan)
    age = (history.now - seconds) / SECONDS_PER_DAY  # (items,) NaN without either date: not new
    is_new = (age >= 0) & (age <= settings.new_days)
    log_weight = np.where(is_new, -age / settings.new_days, -np.inf)
    fresh = np.flatnonzero(is_new).astype(np.int32)
    return NewItemsScorer(log_weight, fresh, hash_ids(history.items["item_id"].to_numpy(object)), settings.seed)


def hash_ids(ids: NDArray[np.object_]) -> NDArray[np.uint64]:
    """(ids,) the same in every process, unlike Python's own hash."""
    return np.asarray(pd.util.hash_array(ids.astype(str).astype(object), categorize=False), np.uint64)


@jit
def _gumbel(user, item):  # type: ignore[no-untyped-def]
    """Gumbel noise from two hashes, mixed as in SplitMix64 (Steele et al. 2014)."""
    z = user + item * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    uniform = (np.float64(z >> np.uint64(11)) + 0.5) / 9007199254740992.0  # in (0, 1), of 53 bits
    return -math.log(-math.log(uniform))


@jit
def _sample(users, fresh, log_weight, item_hash, indptr, indices, items, scores, moments):  # type: ignore[no-untyped-def]
    is_chosen = np.full(len(log_weight), -1, np.int32)  # the last row that chose the item
    for row in range(len(users)):
        for entry in range(indptr[row], indptr[row + 1]):
            is_chosen[indices[entry]] = row
        best_scores, best_items = scores[row], items[row]
        size = 0
        for item in fresh:
            if is_chosen[item] != row:
                score = np.float32(log_weight[item] + _gumbel(users[row], item_hash[item]))
                size = push(best_scores, best_items, size, score, item)
                moments[row, 0] += 1
                moments[row, 1] += score
                moments[row, 2] += np.float64(score) * score
        sort_heap(best_scores, best_items, size)


@jit
def _noisy_pairs(users, log_weight, item_hash, items, scores):  # type: ignore[no-untyped-def]
    for row in range(len(users)):
        for position in range(items.shape[1]):
            item = items[row, position]
            if item >= 0 and log_weight[item] > -np.inf:
                scores[row, position] = log_weight[item] + _gumbel(users[row], item_hash[item])
            else:
                scores[row, position] = -np.inf
