"""Transforms of numbers; missing ones are NaN."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

Numbers = NDArray[np.float64]


def numbers(values: Any) -> Numbers:
    """As float64 of the same shape; None, and what is no number, as NaN."""
    array = np.asarray(values)
    if array.dtype.kind in "fiub":
        return array.astype(np.float64)
    return np.asarray(pd.to_numeric(array.ravel(), errors="coerce"), np.float64).reshape(array.shape)


def finite(column: str) -> Column:
    """Rows whose `column` is neither null nor NaN nor infinite."""
    return F.abs(F.col(column)) < float("inf")


@dataclass(frozen=True)
class MinMax:
    """(x − low) / (high − low), moved to [to_low, to_high]; values beyond what training rows had are clipped."""

    low: float
    high: float
    to_low: float = 0.0
    to_high: float = 1.0

    @classmethod
    def fit(cls, rows: DataFrame, column: str, to_low: float = 0.0, to_high: float = 1.0) -> Self:
        """Smallest and largest of the training rows."""
        low, high = rows.where(finite(column)).agg(F.min(column), F.max(column)).collect()[0]
        return cls(float(low or 0.0), float(high or 0.0), to_low, to_high)

    def transform(self, values: Any) -> Numbers:
        """A column with one value only becomes `to_low`."""
        share = (numbers(values) - self.low) / ((self.high - self.low) or 1.0)
        return self.to_low + np.clip(share, 0.0, 1.0) * (self.to_high - self.to_low)


@dataclass(frozen=True)
class Standardise:
    """(x − mean) / deviation."""

    mean: float
    deviation: float

    @classmethod
    def fit(cls, rows: DataFrame, column: str) -> Self:
        """Mean and standard deviation (of the population) of the training rows."""
        mean, deviation = rows.where(finite(column)).agg(F.avg(column), F.stddev_pop(column)).collect()[0]
        return cls(float(mean or 0.0), float(deviation or 0.0))

    def transform(self, values: Any) -> Numbers:
        """A constant column becomes 0."""
        return (numbers(values) - self.mean) / (self.deviation or 1.0)


@dataclass(frozen=True)
class Log:
    """sign(x) · log(1 + |x|): for skewed values of either sign."""

    def transform(self, values: Any) -> Numbers:
        """Nothing to learn."""
        x = numbers(values)
        return np.asarray(np.sign(x) * np.log1p(np.abs(x)))


@dataclass(frozen=True)
class Arctan:
    """2/π · arctan(x / scale), within −1 and 1: the middle is spread, the tails are pressed."""

    scale: float

    @classmethod
    def fit(cls, rows: DataFrame, column: str) -> Self:
        """The scale is the median of |x|."""
        median = rows.where(finite(column)).agg(F.percentile_approx(F.abs(column), 0.5, 10_000)).collect()[0][0]
        return cls(float(median or 1.0))

    def transform(self, values: Any) -> Numbers:
        """(n,)."""
        return np.asarray(np.arctan(numbers(values) / self.scale) * 2 / math.pi)


@dataclass(frozen=True)
class Quantile:
    """The share of training rows below x, from 0 to 1, straight lines between `edges`; `bins` gives numbers instead."""

    edges: tuple[float, ...]

    @classmethod
    def fit(cls, rows: DataFrame, column: str, bins: int = 100) -> Self:
        """Edges of `bins` bins with equally many rows; equal edges, from values that are frequent, count once."""
        shares = [i / bins for i in range(bins + 1)]
        return cls(tuple(rows.where(finite(column)).approxQuantile(column, shares, 0.1 / bins)))

    def transform(self, values: Any) -> Numbers:
        """Ties get the middle of their shares, as ranks do; NaN stays."""
        x, edges = numbers(values), np.asarray(self.edges)
        if not len(edges):
            return np.where(np.isnan(x), np.nan, 0.5)
        # From both ends: a value that fills several edges lies in their middle.
        shares = np.linspace(0, 1, len(edges))
        up, down = np.interp(x, edges, shares), 1 - np.interp(-x, -edges[::-1], shares)
        return np.asarray((up + down) / 2)

    def bins(self, values: Any) -> NDArray[np.int64]:
        """Number of the bin, from 1; 0 for NaN."""
        x, inner = numbers(values), np.unique(self.edges[1:-1])
        return np.where(np.isnan(x), 0, np.searchsorted(inner, x, side="right") + 1)


@dataclass(frozen=True)
class Whiten:
    """Rotate to uncorrelated columns and divide by sqrt(eigenvalue + eps): PCA; ZCA also rotates back.

    `mean` (width,) is taken off first; `matrix` (width, out).
    """

    mean: tuple[float, ...]
    matrix: tuple[tuple[float, ...], ...]

    @classmethod
    def fit(
        cls,
        rows: DataFrame,
        columns: Sequence[str],
        kind: Literal["pca", "zca"] = "pca",
        eps: float = 1e-5,
        out: int | None = None,
    ) -> Self:
        """From means and covariances that Spark sums up. PCA may keep the `out` strongest components only."""
        width = len(columns)
        for name in columns:
            rows = rows.where(finite(name))
        products = [F.avg(F.col(a) * F.col(b)) for i, a in enumerate(columns) for b in columns[i:]]
        found = rows.agg(*[F.avg(name) for name in columns], *products).collect()[0]
        if found[0] is None:
            raise ValueError(f"no row has all of {', '.join(columns)}: nothing to whiten by")
        mean, covariance = np.array(found[:width]), np.zeros((width, width))
        covariance[np.triu_indices(width)] = found[width:]
        covariance = np.triu(covariance) + np.triu(covariance, 1).T - np.outer(mean, mean)
        values, vectors = np.linalg.eigh(covariance)
        values, vectors = values[::-1], vectors[:, ::-1]
        # Signs of eigenvectors are free: the largest entry is positive, for the same result everywhere.
        vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), range(width)])
        matrix = vectors / np.sqrt(np.maximum(values, 0) + eps)
        matrix = matrix @ vectors.T if kind == "zca" else matrix[:, :out]
        return cls(tuple(mean), tuple(map(tuple, matrix)))

    def transform(self, values: Any) -> Numbers:
        """(n, width) -> (n, out)."""
        return np.asarray((numbers(values) - np.array(self.mean)) @ np.array(self.matrix))


@dataclass(frozen=True)
class Missing:
    """Numbers for missing ones: `value`, and with `flag` a second column that says which were missing."""

    value: float
    flag: bool = False

    @classmethod
    def fit(
        cls, rows: DataFrame, column: str, policy: Literal["zero", "mean", "median"] = "mean", flag: bool = False
    ) -> Self:
        """zero suits columns where 0 has no meaning of its own; else the mean or median of the training rows."""
        learned = {"zero": F.lit(0.0), "mean": F.avg(column), "median": F.percentile_approx(column, 0.5, 10_000)}
        value = rows.where(finite(column)).agg(learned[policy]).collect()[0][0]
        return cls(float(value or 0.0), flag)

    def transform(self, values: Any) -> Numbers:
        """(n,), or (n, 2) with the flag; infinity counts as missing."""
        x = numbers(values)
        gone = ~np.isfinite(x)
        filled = np.where(gone, self.value, x)
        return np.stack([filled, gone], axis=1) if self.flag else filled


@dataclass(frozen=True)
class TimeSince:
    """Time from one moment to another in units of `seconds`; missing when it would be negative: that was not known."""

    seconds: float = 86_400.0

    def transform(self, values: Any) -> Numbers:
        """(n, 2) of epoch seconds (then, now) -> (n,)."""
        times = numbers(values)
        passed = (times[:, 1] - times[:, 0]) / self.seconds
        return np.asarray(np.where(passed >= 0, passed, np.nan))
