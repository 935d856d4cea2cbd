"""Popular items: those with most positives, old ones counting less. Cold users get these too."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.recall.history import History, UserBatch
from recsys.recall.kernels import jit
from recsys.recall.lists import TopItems, empty_lists, top_items
from recsys.settings import RecallSettings


@dataclass(frozen=True)
class HotScorer:
    """Time-decayed popularity, the same for everybody."""

    heat: NDArray[np.float32]  # (items,) −inf for one that nobody chose
    order: NDArray[np.int32]  # (hot,) items that somebody chose, hottest first

    def top_items(self, batch: UserBatch, k: int) -> TopItems:
        """The hottest items, from the top of one order for all."""
        items, scores, moments = empty_lists(len(batch.users), k)
        history = (batch.excluded.indptr, batch.excluded.indices)
        _first_of_order(self.order, self.heat, *history, items, scores, moments)
        hot = self.heat[self.order].astype(np.float64)
        moments += [len(hot), hot.sum(), (hot**2).sum()]
        # Pairs of −1 are places of lists that are shorter than k: they have no heat to look up.
        return top_items(
            items, scores, moments, None, lambda pairs: np.where(pairs >= 0, self.heat[pairs], np.float32(-np.inf))
        )


def fit(history: History, settings: RecallSettings) -> HotScorer:
    """Sum the positives of each item, halved every `half_life_days`."""
    heat = np.where(history.heat > 0, history.heat, -np.inf).astype(np.float32)
    order = np.argsort(-heat, kind="stable")[: int((heat > -np.inf).sum())]
    return HotScorer(heat, order.astype(np.int32))


@jit
def _first_of_order(order, heat, indptr, indices, items, scores, moments):  # type: ignore[no-untyped-def]
    """The first k of `order` that a row did not choose; the chosen ones' share of the moments, negative."""
    is_chosen = np.full(len(heat), -1, np.int32)  # the last row that chose the item
    for row in range(len(items)):
        for entry in range(indptr[row], indptr[row + 1]):
            item = indices[entry]
            is_chosen[item] = row
            if heat[item] > -np.inf:
                moments[row, 0] -= 1
                moments[row, 1] -= heat[item]
                moments[row, 2] -= np.float64(heat[item]) * heat[item]
        size = 0
        for item in order:
            if size == items.shape[1]:
                break
            if is_chosen[item] != row:
                items[row, size], scores[row, size] = item, heat[item]
                size += 1
