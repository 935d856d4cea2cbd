"""What a block of examples changed in copies of a model's rows, added to the rows themselves.

Threads (`parallel.py`) and workers (`sharded.py`) learn in copies. Where nobody else changed a row meanwhile, the
result is the copy, bit by bit.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def added(name: str, now: NDArray[Any], before: NDArray[Any], after: NDArray[Any]) -> NDArray[Any]:
    """Rows `now` of the table called `name`, with the change from `before` to `after`.

    Weights and z change by their difference (`v`, `table`, and the first column of `linear` and `bias`), √n by the
    squares that came in (`s`, and the second column of `linear` and `bias`).
    """
    wide = now.astype(np.float64)
    moved = wide + after - before
    grown = np.sqrt(np.maximum(wide**2 + after.astype(np.float64) ** 2 - before.astype(np.float64) ** 2, 0))
    if name == "table":  # 16 bits
        moved = np.clip(moved, -32768, 32767)
    if name == "s":
        moved = grown
    if name in ("linear", "bias"):
        moved[:, 1] = grown[:, 1]
    return np.where(now == before, after, moved.astype(now.dtype))
