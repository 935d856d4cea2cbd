"""Sparse rows as the FM's kernels read them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Csr:
    """Compressed sparse rows whose entries also have a field.

    Row r has the features index[indptr[r]:indptr[r+1]], each with its value and the field that it belongs to. scipy's
    matrices have no fields, and refuse an index of −1, which stands for a feature that the model does not include.
    """

    indptr: NDArray[np.int64]  # (rows + 1,)
    index: NDArray[np.int32]  # (entries,) row of the model's tables, or the feature's id before inclusion
    value: NDArray[np.float32]  # (entries,)
    field: NDArray[np.uint8]  # (entries,)

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def __getitem__(self, rows: slice) -> "Csr":
        """Slice consecutive rows; the arrays are views but for indptr."""
        first, last, _ = rows.indices(len(self))
        start, stop = int(self.indptr[first]), int(self.indptr[last])
        return Csr(
            self.indptr[first : last + 1] - start,
            self.index[start:stop],
            self.value[start:stop],
            self.field[start:stop],
        )

    def with_index(self, index: NDArray[np.int32]) -> "Csr":
        """Replace the ids (entries,); values and fields are shared."""
        return Csr(self.indptr, index, self.value, self.field)

    @classmethod
    def one_hot(cls, ids: NDArray[np.integer]) -> "Csr":
        """Make rows from ids (rows, fields): one feature per field, each with value 1."""
        num_rows, num_fields = ids.shape
        return cls(
            np.arange(num_rows + 1, dtype=np.int64) * num_fields,
            np.ascontiguousarray(ids, np.int32).ravel(),
            np.ones(ids.size, np.float32),
            np.tile(np.arange(num_fields, dtype=np.uint8), num_rows),
        )

    def validate(self, size: int) -> None:
        """Check what the compiled kernels do not: outside the arrays they would read and write foreign memory.

        Args:
            size: number of rows of the model's tables.

        Raises:
            ValueError: shapes differ, an index is outside [−1, size), or a value is not finite.
        """
        if self.indptr[-1] != len(self.index) or not len(self.index) == len(self.value) == len(self.field):
            raise ValueError(
                f"shapes do not fit: indptr ends at {self.indptr[-1]}, index {len(self.index)}, "
                f"value {len(self.value)}, field {len(self.field)}"
            )
        if len(self.index) and (self.index.min() < -1 or self.index.max() >= size):
            raise ValueError(f"feature ids must lie in [0, {size}), found {self.index.min()}..{self.index.max()}")
        if not np.isfinite(self.value).all():
            raise ValueError("feature values must be finite; found NaN or infinity")
