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

GUMBEL_MEAN, GUMBEL_VARIANCE = 0.5772156649015329, math.pi**2 / 6


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
        item: the same in every run and every batch. Mean and deviation are those to expect of the noise.
        """
        users = hash_ids(batch.users) ^ np.uint64(self.seed * 0x9E3779B97F4A7C15 % 2**64)
        items, scores, moments = empty_lists(len(users), k)
        weights = (self.log_weight, self.item_hash)
        history = (batch.excluded.indptr, batch.excluded.indices)
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
    texts = ids.astype(str).astype(object)
    # Not categorised: that pays where values repeat, and ids here are distinct.
    return np.asarray(pd.util.hash_array(texts, categorize=False), np.uint64)


@jit
def _uniform(user, item):  # type: ignore[no-untyped-def]
    """A number in (0, 1) from two hashes, mixed as in SplitMix64 (Steele et al. 2014)."""
    z = user + item * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return (np.float64(z >> np.uint64(11)) + 0.5) / 9007199254740992.0  # 53 bits


@jit
def _noisy(log_weight, uniform):  # type: ignore[no-untyped-def]
    gumbel = -math.log(-math.log(uniform))
    return np.float32(log_weight + gumbel)


@jit
def _sample(users, fresh, log_weight, item_hash, indptr, indices, items, scores, moments):  # type: ignore[no-untyped-def]
    """The k best of each row's fresh items; what cannot be among them costs no logarithm."""
    is_chosen = np.full(len(log_weight), -1, np.int32)  # the last row that chose the item
    inverse_weight = np.exp(-log_weight)
    for row in range(len(users)):
        for entry in range(indptr[row], indptr[row + 1]):
            is_chosen[indices[entry]] = row
        best_scores, best_items = scores[row], items[row]
        size, bound = 0, np.inf
        for item in fresh:
            if is_chosen[item] == row:
                continue
            mean = log_weight[item] + GUMBEL_MEAN
            moments[row, 0] += 1
            moments[row, 1] += mean
            moments[row, 2] += mean * mean + GUMBEL_VARIANCE
            uniform = _uniform(users[row], item_hash[item])
            # exp(−score) = −log(u) / weight ≥ (1 − u) / weight.
            if (1 - uniform) * inverse_weight[item] > bound:
                continue
            size = push(best_scores, best_items, size, _noisy(log_weight[item], uniform), item)
            if size == len(best_scores):
                bound = math.exp(-best_scores[0]) * (1 + 1e-5)  # rounding must not cost an item its place
        sort_heap(best_scores, best_items, size)


@jit
def _noisy_pairs(users, log_weight, item_hash, items, scores):  # type: ignore[no-untyped-def]
    for row in range(len(users)):
        for position in range(items.shape[1]):
            item = items[row, position]
            if item >= 0 and log_weight[item] > -np.inf:
                scores[row, position] = _noisy(log_weight[item], _uniform(users[row], item_hash[item]))
            else:
                scores[row, position] = -np.inf
