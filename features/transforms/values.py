"""Transforms of values to ids; missing ones are None (or NaN) and become 0."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from features.transforms.hashing import bucket

MISSING, UNKNOWN = 0, 1  # ids that stand for no value, and for one that a vocabulary does not hold


@dataclass(frozen=True)
class Vocabulary:
    """Ids of values: 0 for a missing one, 1 for one not in `values`, then by place in `values`, frequent ones first."""

    values: tuple[str, ...]

    @classmethod
    def fit(cls, rows: DataFrame, column: str, at_least: int = 1, most: int | None = None) -> Self:
        """Values that `at_least` so many training rows have, the `most` frequent of them; ties by value."""
        counts = rows.where(F.col(column).isNotNull()).groupBy(F.col(column).cast("string").alias("value")).count()
        kept = counts.where(F.col("count") >= at_least).orderBy(F.desc("count"), "value")
        return cls(tuple(row["value"] for row in (kept.limit(most) if most else kept).collect()))

    @property
    def size(self) -> int:
        """Number of ids."""
        return len(self.values) + 2

    def transform(self, values: Any) -> NDArray[np.int64]:
        """(n,) ids."""
        return _each(values, lambda value: self._ids.get(value, UNKNOWN))

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {value: place + 2 for place, value in enumerate(self.values)}


@dataclass(frozen=True)
class OneHot:
    """As many columns of 0 and 1 as the vocabulary has ids; all 0 for a missing value."""

    vocabulary: Vocabulary

    @classmethod
    def fit(cls, rows: DataFrame, column: str, at_least: int = 1) -> Self:
        """The vocabulary of the training rows."""
        return cls(Vocabulary.fit(rows, column, at_least))

    def transform(self, values: Any) -> NDArray[np.float32]:
        """(n, size − 1): the first column is for values that training rows did not have."""
        return np.eye(self.vocabulary.size, dtype=np.float32)[self.vocabulary.transform(values)][:, 1:]


@dataclass(frozen=True)
class Hashing:
    """A value's hash, from 1 to buckets − 1, without a vocabulary; 0 for a missing one. As Spark's xxhash64 has it."""

    buckets: int
    seed: int = 0

    def transform(self, values: Any) -> NDArray[np.int64]:
        """(n,) ids."""
        return _each(values, lambda value: bucket(self.seed, value, self.buckets))


@dataclass(frozen=True)
class Cross:
    """Values of several columns as one, hashed; missing when one of them is."""

    buckets: int
    seed: int = 0

    def transform(self, values: Any) -> NDArray[np.int64]:
        """(n, columns) -> (n,) ids."""
        joined = [None if any(pd.isna(value) for value in row) else "|".join(map(str, row)) for row in values]
        return Hashing(self.buckets, self.seed).transform(joined)


@dataclass(frozen=True)
class MultiValued:
    """Lists of values as `length` ids each, by a vocabulary: the first ones, padded with 0."""

    vocabulary: Vocabulary
    length: int

    @classmethod
    def fit(cls, rows: DataFrame, column: str, length: int, at_least: int = 1) -> Self:
        """Of a column of arrays."""
        return cls(Vocabulary.fit(rows.select(F.explode(column).alias("value")), "value", at_least), length)

    def transform(self, values: Any) -> NDArray[np.int64]:
        """(n,) lists -> (n, length) ids."""
        return self._rows(values, lambda row: row[: self.length])

    def _rows(self, values: Any, cut: Callable[[list[Any]], list[Any]]) -> NDArray[np.int64]:
        ids = np.full((len(values), self.length), MISSING, np.int64)
        for row, given in enumerate(values):
            found = self.vocabulary.transform(cut([] if given is None else list(given)))
            ids[row, : len(found)] = found
        return ids


@dataclass(frozen=True)
class LastItems(MultiValued):
    """The last `length` of each list, oldest first, padded with 0 at the end."""

    def transform(self, values: Any) -> NDArray[np.int64]:
        """(n,) lists -> (n, length) ids."""
        return self._rows(values, lambda row: row[-self.length :])


def _each(values: Any, id_of: Callable[[str], int]) -> NDArray[np.int64]:
    """(n,) ids of values as text."""
    return np.array([MISSING if pd.isna(value) else id_of(str(value)) for value in values], np.int64)
