"""Channels of one's own that score every item: their answer as lists."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from recsys.recall import kernels
from recsys.recall.history import UserBatch
from recsys.recall.lists import TopItems, empty_lists, top_items

MAX_CELLS = 4_000_000  # of a matrix (users, items) at a time: 16 MB


class DenseScorer(Protocol):
    """A fitted channel that has a score for every item."""

    def score(self, batch: UserBatch) -> NDArray[np.float32]:
        """(users, items), larger is better; −inf for what the channel does not propose."""


@dataclass(frozen=True)
class DenseLists:
    """A dense scorer as a `Scorer`. Each user is scored twice: the matrix of a batch is not kept."""

    scorer: DenseScorer

    def top_items(self, batch: UserBatch, k: int) -> TopItems:
        """The best items of each user, MAX_CELLS scores at a time."""
        items, scores, moments = empty_lists(len(batch.users), k)
        for part, start, stop in _parts(batch):
            block = self._scores(part)  # (users of the part, items)
            rows, columns = part.excluded.nonzero()
            # Before the moments: they are of what can be proposed, without the excluded.
            block[rows, columns] = -np.inf
            is_finite = np.isfinite(block)
            filled = np.where(is_finite, block, 0).astype(np.float64)  # sums of many float32 lose digits
            moments[start:stop] = np.stack([is_finite.sum(1), filled.sum(1), (filled**2).sum(1)], axis=1)
            history = (part.excluded.indptr, part.excluded.indices)
            kernels.top_of_row(block, 0, items[start:stop], scores[start:stop], *history, 0, stop - start)

        def score_pairs(pairs: NDArray[np.int32]) -> NDArray[np.float32]:
            values = np.full(pairs.shape, -np.inf, np.float32)
            for part, start, stop in _parts(batch):
                taken = np.take_along_axis(self._scores(part), np.maximum(pairs[start:stop], 0), axis=1)
                values[start:stop] = np.where(pairs[start:stop] >= 0, taken, -np.inf)
            return values

        return top_items(items, scores, moments, None, score_pairs)

    def _scores(self, batch: UserBatch) -> NDArray[np.float32]:
        """A copy of the channel's scores, −inf for NaN."""
        scores = np.array(self.scorer.score(batch), np.float32)
        scores[np.isnan(scores)] = -np.inf
        return scores


def _parts(batch: UserBatch) -> list[tuple[UserBatch, int, int]]:
    """Parts of a batch whose matrices have at most MAX_CELLS cells, with the rows where they begin and end."""
    num_users, num_items = batch.chosen.shape
    # At least one user at a time, however many items there are.
    rows = max(1, MAX_CELLS // max(num_items, 1))
    parts = []
    for start in range(0, num_users, rows):
        stop = min(start + rows, num_users)
        hidden = None if batch.hidden is None else batch.hidden[start:stop]
        part = UserBatch(batch.users[start:stop], batch.chosen[start:stop], batch.recent[start:stop], hidden)
        parts.append((part, start, stop))
    return parts
