"""How channels are merged: a weighted sum of their standardised scores, with weights learned from held-out choices.

The weights make the best lists of candidates from what was known before the validation rows, judged by what users chose
in these: no test row is seen. Before any are learned, places count: Σ 1 / (60 + place) (Cormack et al. 2009).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.blend import ascent

RRF = 60.0


@dataclass(frozen=True)
class Weights:
    """`values` (channels,) or None for places; `fallback` is the channel that cold users are ranked by."""

    values: NDArray[np.float64] | None
    fallback: int

    def merge(
        self, standard: NDArray[np.float32], places: NDArray[np.int32], is_cold: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """(users, items) from scores and places (channels, users, items)."""
        by_place: NDArray[np.float64] = np.where(places > 0, 1 / (RRF + places), 0).sum(axis=0)
        if self.values is None:
            return by_place
        merged = np.tensordot(self.values, standard.astype(np.float64), axes=1)
        # What other channels have for someone unknown (new items, say) is a draw: it breaks ties.
        return np.where(is_cold[:, None], standard[self.fallback] + 1e-3 * by_place, merged)


def learn_weights(candidates: pd.DataFrame, names: Sequence[str], k: int) -> Weights:
    """From `candidates` with user_id, scores (standardised, one a channel) and label. With few positives: by places."""
    fallback = names.index("hot") if "hot" in names else 0
    if candidates.empty:
        return Weights(None, fallback)
    scores = np.stack(list(candidates["scores"]))
    user = candidates["user_id"].factorize()[0]
    return Weights(ascent.learn(scores, candidates["label"].to_numpy(), user, k), fallback)
