"""Feature rows -> what the FM reads: one id per field, hashed into its table; dense features by quantile bins."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.catalog import DENSE, SPARSE
from recsys.dataset import Rows
from recsys.fine.csr import Csr

MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: Fibonacci hashing spreads consecutive ids over the table
FIELDS = [*[feature.name for feature in SPARSE], *[feature.name for feature in DENSE]]  # by number of the field

Statistics = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Encoder:
    """Bins and hashes features."""

    edges: NDArray[np.float32]  # (dense features, bins − 1) inner quantiles, in the standardised units of the data set
    bits: int  # ids are below 2^bits

    @classmethod
    def fit(cls, rows: Rows, bins: int, bits: int) -> "Encoder":
        """Fit the bins' edges to the quantiles of training rows."""
        shares = np.linspace(0, 1, bins + 1)[1:-1]
        return cls(np.quantile(rows.dense, shares, axis=0).T.astype(np.float32), bits)

    def encode(self, rows: Rows) -> Csr:
        """Encode rows: one feature per field, with value 1; sparse fields first, then dense ones, as in FIELDS.

        Two features may share an id; with far more ids than features it costs next to nothing.
        """
        num_rows, num_sparse = rows.sparse.shape
        ids = np.empty((num_rows, num_sparse + len(self.edges)), np.int32)
        # A block at a time: on the way there are several arrays of 64 bits.
        for block in rows.blocks():
            bins = [np.searchsorted(self.edges[i], rows.dense[block, i]) for i in range(len(self.edges))]
            values = np.column_stack([rows.sparse[block], *bins]).astype(np.uint64)  # (rows, fields)
            # The field is above every value: 5 in two fields differs.
            field = np.arange(values.shape[1], dtype=np.uint64) << np.uint64(40)
            ids[block] = ((values | field) * MIX) >> np.uint64(64 - self.bits)
        return Csr.one_hot(ids)

    def raw_edges(self, statistics: Statistics) -> NDArray[np.float64]:
        """Edges in the units before standardisation, so that they outlast the day's statistics; shape as `edges`."""
        mean, deviation = _dense_statistics(statistics)
        return self.edges * deviation + mean

    @classmethod
    def from_raw(cls, edges: NDArray[np.float64], bits: int, statistics: Statistics) -> "Encoder":
        """Rebuild an encoder from its `raw_edges` for a data set that is standardised by other statistics."""
        mean, deviation = _dense_statistics(statistics)
        return cls(((edges - mean) / deviation).astype(np.float32), bits)


def _dense_statistics(statistics: Statistics) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation of the dense features, each (features, 1)."""
    names = [feature.name for feature in DENSE]
    mean, deviation = (np.array([statistics[kind][name] for name in names]) for kind in ("mean", "deviation"))
    return mean[:, None], deviation[:, None]
