"""Vectors of a factorisation for nearest-neighbour search: their inner product orders items by log odds of a click."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from conf import Config
from features import catalog
from features.catalog import DENSE, SPARSE
from features.transforms.hashing import bucket_hasher
from recsys.dataset import Rows, feature_statistics
from recsys.mf.encode import AGE, ITEM_FIELDS, SPARSE_NAMES
from recsys.mf.inference import Side
from recsys.mf.train import MFRanker, load_for

SECONDS_PER_DAY = 86_400


@dataclass(frozen=True)
class Factors:
    """A factorisation, and how its training set has features of items."""

    ranker: MFRanker
    statistics: Mapping[str, Any]  # of the training set

    def item_vectors(self, items: pd.DataFrame, now: float) -> NDArray[np.float32]:
        """(items, factors + 1) the posterior means, and last the item's bias with what its age adds.

        Args:
            items: item_id, category, author and published_at (UTC); some may be new.
            now: the moment of the list, in seconds since 1970.
        """
        encoder, posterior = self.ranker.encoder, self.ranker.posterior
        rows = self._rows(items, now)
        mean = posterior.items.prior_mean(encoder.item_side.transform(rows.sparse))
        codes = encoder.item_codes(rows)
        mean[codes >= 0] = posterior.items.mean[codes[codes >= 0]]
        bias = mean[:, posterior.users.one] + encoder.contexts(rows) @ posterior.context
        # Without the last two coordinates, the bias and the constant 1 that meets the other side's bias.
        return np.column_stack([mean[:, :-2], bias]).astype(np.float32)

    def user_vectors(self) -> tuple[NDArray[np.str_], NDArray[np.float32]]:
        """Ids (users,), sorted, and vectors (users + 1, factors + 1); the last one is that of an unknown user.

        Without the users' own biases, which change no order.
        """
        side = self.ranker.posterior.users
        mean = np.vstack([side.mean, _unknown(side)])
        return self.ranker.encoder.users, np.column_stack([mean[:, :-2], np.ones(len(mean))]).astype(np.float32)

    def _rows(self, items: pd.DataFrame, now: float) -> Rows:
        """Feature rows of items: their columns and their age alone, as the training set has them."""
        sparse, dense = np.zeros((len(items), len(SPARSE)), np.int64), np.zeros((len(items), len(DENSE)), np.float32)
        for name in ITEM_FIELDS:
            feature = SPARSE[SPARSE_NAMES.index(name)]
            bucket = bucket_hasher(catalog.index_of(feature), feature.buckets, feature.is_number)
            values = {value: bucket(value) for value in items[name].dropna().unique()}
            sparse[:, SPARSE_NAMES.index(name)] = items[name].map(values).fillna(0).astype(np.int64)
        days = (now - (pd.to_datetime(items["published_at"]) - pd.Timestamp(0)).dt.total_seconds()) / SECONDS_PER_DAY
        # As the catalog has it: log1p of whole days, standardised; 0 where there is no date.
        age = np.log1p(np.floor(np.maximum(days.to_numpy(np.float64), 0)))
        name = DENSE[AGE].name
        scaled = (age - self.statistics["mean"][name]) / self.statistics["deviation"][name]
        dense[:, AGE] = np.nan_to_num(scaled)
        return Rows(sparse, dense, np.zeros(len(items), np.float32), {"item_id": items["item_id"].astype(str)})


def load_factors(config: Config, day: date, split: str) -> Factors | None:
    """Vectors of the day's newest factorisation that has not learned from `split`; None when there is none."""
    ranker = load_for(config, day, split)
    return None if ranker is None else Factors(ranker, feature_statistics(config, day))


def _unknown(side: Side) -> NDArray[np.float64]:
    """The prior's mean (1, size) where there is no side information but the constant."""
    mean = side.weights[-1:].copy()
    mean[:, side.one] = 1.0
    return mean
