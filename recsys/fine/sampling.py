"""Sub-sampling of training rows without bias (McMahan et al. 2013, section 4.6).

Most lists get no click and carry little information. Every row of a list with a click stays, rows of other lists stay
at a rate, with weight 1 / rate: the expected loss and gradient are those of all rows, so predictions stay calibrated.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def list_ids(users: NDArray[Any], at: NDArray[np.float64]) -> NDArray[np.uint64]:
    """(rows,) id of the list that a row is in, a hash of its user (rows,) and its moment (rows,) in seconds.

    Ids are those of the list wherever it stands: in another file, or after other rows.
    """
    user_hash: NDArray[np.uint64] = pd.util.hash_array(np.asarray(users, dtype=object))
    # The bits of the moment, mixed: consecutive seconds differ in a few bits only.
    time_hash: NDArray[np.uint64] = pd.util.hash_array(np.asarray(at, np.float64).view(np.uint64))
    return user_hash ^ time_hash


def sample_weights(
    label: NDArray[np.float32], lists: NDArray[np.integer], rate: float, seed: int
) -> NDArray[np.float32]:
    """Draw the weight of each row: 1 in lists with a click, 1 / rate or 0 in the others.

    A list is sampled as a whole, by a hash of its id and the seed: the same lists whatever rows stand beside them.

    Args:
        label: (rows,) 1 for a click.
        lists: (rows,) id of the list that the row is in, as of `list_ids`.
        rate: share of the lists without a click that stay, in (0, 1].
        seed: of the draw.

    Returns:
        (rows,) weights.
    """
    ids, code = np.unique(lists, return_inverse=True)  # (lists,) and, of each row, the list's number from 0
    is_clicked = np.bincount(code, weights=label) > 0  # (lists,)
    seed_hash = pd.util.hash_array(np.array([seed], np.uint64))
    draw = pd.util.hash_array(ids.astype(np.uint64) ^ seed_hash) / 2.0**64  # (lists,) in [0, 1)
    return np.where(is_clicked, 1.0, np.where(draw < rate, 1.0 / rate, 0.0))[code].astype(np.float32)
