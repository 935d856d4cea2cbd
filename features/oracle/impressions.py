"""Impressions of a generated site by the numbers of its users and items."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray


@dataclass(frozen=True)
class Impressions:
    """Impressions sorted by user; all (rows,)."""

    user: NDArray[np.int64]  # numbers of the simulator: 42 of u42
    item: NDArray[np.int64]
    position: NDArray[np.int64]  # from 1
    day_index: NDArray[np.int64]  # days since the site's first day
    is_clicked: NDArray[np.bool_]

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> "Impressions":
        """Take them from user_id, item_id, position, day_index and label, in any order."""
        user = numbers(frame["user_id"])
        order = np.argsort(user, kind="stable")
        columns = [frame[name].to_numpy(np.int64)[order] for name in ("position", "day_index", "label")]
        return cls(user[order], numbers(frame["item_id"])[order], columns[0], columns[1], columns[2] > 0)

    def where(self, is_chosen: NDArray[np.bool_]) -> "Impressions":
        """The rows for which `is_chosen` (rows,) is true."""
        return Impressions(*(column[is_chosen] for column in vars(self).values()))


def numbers(ids: "pd.Series[str]") -> NDArray[np.int64]:
    """Numbers of the simulator's users or items: 42 of u42."""
    return np.asarray(ids.str[1:], np.int64)
