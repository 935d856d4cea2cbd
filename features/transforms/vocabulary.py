"""Ids of categorical values, by how frequent they are in the training rows."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

MISSING_ID, UNKNOWN_ID = 0, 1


@dataclass(frozen=True)
class Vocabulary:
    """Ids of values: 0 for a missing one, 1 for one not in `values`, then from 2 in the order of `values`."""

    values: tuple[str, ...]

    @classmethod
    def fit(cls, rows: DataFrame, column: str, at_least: int = 1, max_values: int | None = None) -> Self:
        """The values that `at_least` so many rows have, frequent ones first, ties by value.

        Args:
            rows: training rows.
            column: of any type; values are compared as text.
            at_least: rows that a value needs.
            max_values: the most frequent so many are kept; all when None.
        """
        # Values come to the driver: a vocabulary has fewer than the feature's buckets.
        counts = rows.where(F.col(column).isNotNull()).groupBy(F.col(column).cast("string").alias("value")).count()
        # Ordered by value as well, so that equal counts get the same ids on every run.
        frequent = counts.where(F.col("count") >= at_least).orderBy(F.desc("count"), "value")
        if max_values:
            frequent = frequent.limit(max_values)
        return cls(tuple(row["value"] for row in frequent.collect()))

    def transform(self, values: Any) -> NDArray[np.int64]:
        """(rows,) values -> (rows,) ids; None and NaN are missing."""
        ids = [MISSING_ID if pd.isna(value) else self._ids.get(str(value), UNKNOWN_ID) for value in values]
        return np.array(ids, np.int64)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {value: i for i, value in enumerate(self.values, UNKNOWN_ID + 1)}
