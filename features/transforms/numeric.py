"""Transforms of numbers that are fitted on training rows; missing values are NaN and stay NaN.

Each is a frozen dataclass whose fields are what was learned: `fit` makes it on Spark, `transform` maps (rows,) to
(rows,) with numpy, for a batch that Spark hands over and for one request alike.
"""

import math
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

Floats = NDArray[np.float64]


class FittedTransform(Protocol):
    """What every transform of this module has; its fields are numbers or sequences of numbers, kept as JSON."""

    @classmethod
    def fit(cls, rows: DataFrame, column: str) -> Self:
        """Learn from a column of the training rows, missing values left out."""
        ...

    def transform(self, values: Any) -> Floats:
        """(rows,) numbers -> (rows,); NaN stays."""
        ...


@dataclass(frozen=True)
class Arctan:
    """2/π · arctan(x / scale), within −1 and 1: spreads the middle and presses the tails of skewed values."""

    scale: float

    @classmethod
    def fit(cls, rows: DataFrame, column: str) -> Self:
        """The scale is the median of |x|, so that half the training rows lie within ±1/2."""
        median = F.percentile_approx(F.abs(column), 0.5, 10_000)
        scale = rows.where(is_finite(column)).agg(median).collect()[0][0]
        return cls(float(scale or 1.0))  # no row, or half of them 0

    def transform(self, values: Any) -> Floats:
        """(rows,) numbers -> (rows,)."""
        angles = np.arctan(as_floats(values) / self.scale)
        return np.asarray(angles * 2 / math.pi)


@dataclass(frozen=True)
class Quantile:
    """The share of training rows below x, from 0 to 1, by straight lines between the quantiles `edges`."""

    edges: tuple[float, ...]

    @classmethod
    def fit(cls, rows: DataFrame, column: str, bins: int = 100) -> Self:
        """Edges of `bins` bins with equally many rows; Greenwald-Khanna sketch, off by a tenth of a bin at most."""
        shares = [i / bins for i in range(bins + 1)]
        return cls(tuple(rows.where(is_finite(column)).approxQuantile(column, shares, 0.1 / bins)))

    def transform(self, values: Any) -> Floats:
        """(rows,) numbers -> (rows,); a value that fills several bins gets their middle, as ranks of ties do."""
        x, edges = as_floats(values), np.asarray(self.edges)
        if not len(edges):  # no training row had a value
            return np.where(np.isnan(x), np.nan, 0.5)
        # np.interp takes the last of equal edges; from both ends, the mean is the middle.
        shares = np.linspace(0, 1, len(edges))
        rising, falling = np.interp(x, edges, shares), 1 - np.interp(-x, -edges[::-1], shares)
        return np.asarray((rising + falling) / 2)


def as_floats(values: Any) -> Floats:
    """float64 of the same shape; None, and what is no number, as NaN."""
    array = np.asarray(values)
    if array.dtype.kind in "fiub":  # float, int, unsigned, bool
        return array.astype(np.float64)
    return np.asarray(pd.to_numeric(array.ravel(), errors="coerce"), np.float64).reshape(array.shape)


def is_finite(column: str) -> Column:
    """True where `column` is neither NaN nor infinite; null, which filters drop as well, where it is null."""
    return F.abs(F.col(column)) < float("inf")
