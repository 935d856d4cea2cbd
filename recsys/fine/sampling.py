"""Learn from fewer rows without bias (McMahan et al. 2013, section 4.6): most lists get no click and say little.

Every row of a list with a click is kept, rows of other lists at a rate, each with weight 1 / rate: the expected loss
and gradient are those of all rows, so predictions stay calibrated.
"""

import numpy as np
from numpy.typing import NDArray


def sample_weights(
    label: NDArray[np.float32], lists: NDArray[np.integer], rate: float, seed: int
) -> NDArray[np.float32]:
    """Weight of each row (n,): 1 in lists with a click, 1 / rate or 0 in others; `lists` (n,) says which list.

    The draw hashes the list's number, so a list is kept or dropped whole, and the same in every run.
    """
    _, place = np.unique(lists, return_inverse=True)
    is_clicked = np.bincount(place, weights=label) > 0
    is_sampled = np.random.default_rng(seed).random(len(is_clicked)) < rate
    return np.where(is_clicked, 1.0, np.where(is_sampled, 1.0 / rate, 0.0))[place].astype(np.float32)
