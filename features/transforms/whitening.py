"""Whitening of the dense features: uncorrelated columns of variance 1."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F


@dataclass(frozen=True)
class Whitening:
    """(x − mean) @ matrix: PCA rotates to the principal axes and divides by sqrt(eigenvalue + epsilon); ZCA also
    rotates back, which keeps each column nearest to what it was (Kessy et al. 2018).
    """

    columns: tuple[str, ...]
    mean: tuple[float, ...]
    matrix: tuple[tuple[float, ...], ...]
    """(columns, columns)."""

    @classmethod
    def fit(cls, rows: DataFrame, columns: Sequence[str], kind: Literal["pca", "zca"], epsilon: float) -> Self:
        """From means and covariances that Spark sums up in one pass.

        Args:
            rows: training rows, without missing values.
            columns: names of the dense columns.
            kind: pca or zca.
            epsilon: keeps directions without variance from being blown up; 1e-5, more for noisy data.

        Raises:
            ValueError: when there is no row.
        """
        width = len(columns)
        # One pass, of which nothing but numbers of each pair come to the driver. Spark sums up deviations from the
        # running mean (Welford): E[ab] − E[a]E[b] would lose all digits where means are large against deviations.
        covariances = [F.covar_pop(a, b) for i, a in enumerate(columns) for b in columns[i:]]
        moments = rows.agg(*[F.avg(name) for name in columns], *covariances).collect()[0]
        if moments[0] is None:
            raise ValueError(f"no row has all of {', '.join(columns)}: nothing to whiten by")
        mean, covariance = np.array(moments[:width]), np.zeros((width, width))
        covariance[np.triu_indices(width)] = moments[width:]
        covariance = np.triu(covariance) + np.triu(covariance, 1).T
        values, vectors = np.linalg.eigh(covariance)  # ascending
        values, vectors = values[::-1], vectors[:, ::-1]
        # Signs of eigenvectors are free: the largest entry is positive, for the same result on every machine.
        vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), range(width)])
        matrix = vectors / np.sqrt(np.maximum(values, 0) + epsilon)
        if kind == "zca":
            matrix = matrix @ vectors.T  # rotate back
        return cls(tuple(columns), tuple(mean.tolist()), tuple(map(tuple, matrix.tolist())))

    def transform(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """(rows, columns) -> (rows, columns)."""
        centred = np.asarray(values, np.float64) - np.array(self.mean)  # (rows, columns)
        return np.asarray(centred @ np.array(self.matrix))
