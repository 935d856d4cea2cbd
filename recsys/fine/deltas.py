"""Adds what a block of examples changed in a copy of a model's rows to the rows themselves.

Threads (`parallel.py`) and workers (`sharded.py`) train on copies. Where nobody else changed a row meanwhile, the
result is the copy, bit by bit.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def apply_delta(table: str, current: NDArray[Any], before: NDArray[Any], after: NDArray[Any]) -> NDArray[Any]:
    """Apply the change of a copy from `before` to `after` to the rows as they are now.

    Weights and z change by their difference (`v`, `table`, and the first column of `linear` and `bias`), √n by the
    squared gradients that came in (`s`, and the second column of `linear` and `bias`).

    Args:
        table: name of the model's table.
        current: (rows, width) the rows now.
        before: (rows, width) the copy before the block.
        after: (rows, width) the copy after the block.

    Returns:
        (rows, width) the new rows.
    """
    wide = current.astype(np.float64)  # a block adds little to a large n: float32 would round it away
    moved = wide + after - before
    root_sum = np.sqrt(np.maximum(wide**2 + after.astype(np.float64) ** 2 - before.astype(np.float64) ** 2, 0))
    if table == "table":  # 16-bit weights must not wrap around
        moved = np.clip(moved, -32768, 32767)
    if table == "s":
        moved = root_sum
    if table in ("linear", "bias"):
        moved[:, 1] = root_sum[:, 1]
    return np.where(current == before, after, moved.astype(current.dtype))
