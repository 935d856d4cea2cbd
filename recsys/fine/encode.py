"""Feature rows -> what the FM reads: one id per field, hashed into its table; dense features by quantile bins."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.dataset import Rows

MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: spreads consecutive ids over the table


@dataclass(frozen=True)
class Encoder:
    """`edges` (dense features, bins − 1): inner quantiles of the training rows."""

    edges: NDArray[np.float32]
    bits: int

    @classmethod
    def fit(cls, train: Rows, bins: int, bits: int) -> "Encoder":
        shares = np.linspace(0, 1, bins + 1)[1:-1]
        return cls(np.quantile(train.dense, shares, axis=0).T.astype(np.float32), bits)

    def encode(self, rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """CSR-like (indptr, index, value): every row has one feature per field, with value 1."""
        binned = [np.searchsorted(self.edges[i], rows.dense[:, i]) for i in range(len(self.edges))]
        values = np.concatenate([rows.sparse, np.stack(binned, axis=1)], axis=1).astype(np.uint64)
        field = np.arange(values.shape[1], dtype=np.uint64) << np.uint64(40)
        index = (((values | field) * MIX) >> np.uint64(64 - self.bits)).astype(np.int64)
        num_rows, num_fields = index.shape
        indptr = np.arange(num_rows + 1, dtype=np.int64) * num_fields
        return indptr, index.ravel(), np.ones(index.size, np.float32)
