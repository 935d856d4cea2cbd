"""Sparse rows as the FM's kernels read them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Csr:
    """Row r has the features index[indptr[r]:indptr[r+1]], each with its value and the field that it belongs to.

    `indptr` (rows + 1,) int64, `index` (nnz,) int32, `value` (nnz,) float32, `field` (nnz,) uint8. An index of −1 is a
    feature that the model does not hold.
    """

    indptr: NDArray[np.int64]
    index: NDArray[np.int32]
    value: NDArray[np.float32]
    field: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def __getitem__(self, rows: slice) -> "Csr":
        """A stretch of rows; arrays are views."""
        first, last, _ = rows.indices(len(self))
        a, b = int(self.indptr[first]), int(self.indptr[last])
        return Csr(self.indptr[first : last + 1] - a, self.index[a:b], self.value[a:b], self.field[a:b])

    def with_index(self, index: NDArray[np.int32]) -> "Csr":
        """The same rows with other ids."""
        return Csr(self.indptr, index, self.value, self.field)

    @classmethod
    def one_hot(cls, ids: NDArray[np.integer]) -> "Csr":
        """From (rows, fields): one feature a field, each with value 1."""
        num_rows, num_fields = ids.shape
        return cls(
            np.arange(num_rows + 1, dtype=np.int64) * num_fields,
            np.ascontiguousarray(ids, np.int32).ravel(),
            np.ones(ids.size, np.float32),
            np.tile(np.arange(num_fields, dtype=np.uint8), num_rows),
        )

    def check(self, size: int) -> None:
        """Raises ValueError for shapes that do not fit, ids outside [−1, size), and values that are not finite."""
        if self.indptr[-1] != len(self.index) or not len(self.index) == len(self.value) == len(self.field):
            raise ValueError(
                f"shapes do not fit: indptr ends at {self.indptr[-1]}, index {len(self.index)}, "
                f"value {len(self.value)}, field {len(self.field)}"
            )
        if len(self.index) and (self.index.min() < -1 or self.index.max() >= size):
            raise ValueError(f"feature ids must lie in [0, {size}), found {self.index.min()}..{self.index.max()}")
        if not np.isfinite(self.value).all():
            raise ValueError("feature values must be finite; found NaN or infinity")
