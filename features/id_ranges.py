"""Values that models read: ids lie in [0, buckets), numbers are finite. Checked wherever a data set is read.

An id beyond is an index error in a model, a smaller wrong one is the embedding of another field, and one NaN makes all
weights NaN.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from conf import UserError


def check_ids(ids: NDArray[np.int64], sizes: Sequence[int], columns: Sequence[str], place: str) -> None:
    """Check the ids of a block of rows; one pass over them.

    Args:
        ids: (rows, columns).
        sizes: (columns,) number of ids of each column.
        columns: names.
        place: what the rows are of, for the message: a file and its row group.

    Raises:
        UserError: an id is not in [0, size); the message names column, value, row of the block and place.
    """
    if not ids.size:
        return
    # As unsigned numbers negative ids are beyond all sizes: one comparison instead of two.
    largest = ids.view(np.uint64).max(axis=0)  # (columns,)
    for column in np.flatnonzero(largest >= np.asarray(sizes, np.uint64)).tolist():
        row = int(np.flatnonzero(ids.view(np.uint64)[:, column] >= np.uint64(sizes[column]))[0])
        raise UserError(
            f"{columns[column]} is {ids[row, column]} in row {row} of {place}; its ids lie in [0, {sizes[column]}): "
            "build the training set again"
        )


def check_finite(numbers: NDArray[np.float32], columns: Sequence[str], place: str) -> None:
    """Check the numbers (rows, columns) of a block of rows, as `check_ids` does ids.

    Raises:
        UserError: one is NaN or infinite.
    """
    if np.isfinite(numbers).all():
        return
    row, column = (int(index[0]) for index in np.nonzero(~np.isfinite(numbers)))
    raise UserError(
        f"{columns[column]} is {numbers[row, column]} in row {row} of {place}: build the training set again"
    )
