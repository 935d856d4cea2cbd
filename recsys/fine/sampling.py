"""Sub-sampling of training rows without bias (McMahan et al. 2013, section 4.6).

Most lists get no click and carry little information. Every row of a list with a click stays, rows of other lists stay
at a rate, with weight 1 / rate: the expected loss and gradient are those of all rows, so predictions stay calibrated.
"""

import numpy as np
from numpy.typing import NDArray


def sample_weights(
    label: NDArray[np.float32], lists: NDArray[np.integer], rate: float, seed: int
) -> NDArray[np.float32]:
    """Draw the weight of each row: 1 in lists with a click, 1 / rate or 0 in the others.

    A list is sampled as a whole; the same seed draws the same lists.

    Args:
        label: (rows,) 1 for a click.
        lists: (rows,) number of the list that the row is in.
        rate: share of the lists without a click that stay, in (0, 1].
        seed: of the draw.

    Returns:
        (rows,) weights.
    """
    _, code = np.unique(lists, return_inverse=True)  # (rows,) of the list, from 0
    is_clicked = np.bincount(code, weights=label) > 0  # (lists,)
    is_sampled = np.random.default_rng(seed).random(len(is_clicked)) < rate
    return np.where(is_clicked, 1.0, np.where(is_sampled, 1.0 / rate, 0.0))[code].astype(np.float32)
