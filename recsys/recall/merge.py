"""How channels are merged: a weighted sum of their standardised scores, with weights learned from held-out choices.

The weights are a logistic regression on candidates from what was known before the validation rows, labelled by what
users chose in these: no test row is seen. Before any are learned, places count: Σ 1 / (60 + place) (Cormack et al.
2009).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RRF = 60.0
LEAST = 50  # positives below which nothing can be learned


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
        return np.where(is_cold[:, None], standard[self.fallback] + by_place, merged)


def learn_weights(scores: NDArray[np.float32], label: NDArray[np.integer], names: Sequence[str]) -> Weights:
    """From candidates: `scores` (rows, channels) standardised, `label` (rows,). With few positives: by places."""
    from sklearn.linear_model import LogisticRegression

    fallback = names.index("hot") if "hot" in names else 0
    if min(label.sum(), len(label) - label.sum()) < LEAST:
        return Weights(None, fallback)
    model = LogisticRegression(C=1.0, max_iter=1000).fit(scores, label)
    return Weights(np.asarray(model.coef_[0], np.float64), fallback)
