"""Feature rows -> what the FM reads: one id per field, hashed into its table; dense features by quantile bins."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.catalog import DENSE
from recsys.dataset import Rows
from recsys.fine.csr import Csr

MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: spreads consecutive ids over the table
Statistics = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Encoder:
    """`edges` (dense features, bins − 1): inner quantiles of the training rows, in the units of the data set."""

    edges: NDArray[np.float32]
    bits: int

    @classmethod
    def fit(cls, train: Rows, bins: int, bits: int) -> "Encoder":
        """Quantiles of these rows."""
        shares = np.linspace(0, 1, bins + 1)[1:-1]
        return cls(np.quantile(train.dense, shares, axis=0).T.astype(np.float32), bits)

    def encode(self, rows: Rows) -> Csr:
        """One feature per field, with value 1."""
        binned = [np.searchsorted(self.edges[i], rows.dense[:, i]) for i in range(len(self.edges))]
        values = np.concatenate([rows.sparse, np.stack(binned, axis=1)], axis=1).astype(np.uint64)
        field = np.arange(values.shape[1], dtype=np.uint64) << np.uint64(40)
        return Csr.one_hot(((values | field) * MIX) >> np.uint64(64 - self.bits))

    def raw_edges(self, statistics: Statistics) -> NDArray[np.float64]:
        """Edges as they are before standardising, so that they outlast the day's statistics."""
        mean, deviation = _columns(statistics)
        return self.edges * deviation + mean

    @classmethod
    def from_raw(cls, edges: NDArray[np.float64], bits: int, statistics: Statistics) -> "Encoder":
        """The encoder for a data set with other statistics."""
        mean, deviation = _columns(statistics)
        return cls(((edges - mean) / deviation).astype(np.float32), bits)


def _columns(statistics: Statistics) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation of the dense features, each (features, 1)."""
    names = [feature.name for feature in DENSE]
    mean, deviation = (np.array([statistics[kind][name] for name in names]) for kind in ("mean", "deviation"))
    return mean[:, None], deviation[:, None]
