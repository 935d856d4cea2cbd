"""A linear item model in closed form: EASE (Steck 2019), on a matrix scaled by users' and items' counts.

With X̃ = D_u^(−a) X D_i^(−b), G = X̃ᵀX̃ and P = (G + λI)⁻¹, weights are B = −P / diag(P) with zero diagonal; a score is
x̃ B, scaled back by n_i^b. Powers of 0 give the published model; 0.25 keeps heavy users and hits from leading.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import linalg

from recsys.recall.history import Batch, History
from recsys.settings import RecallSettings


@dataclass(frozen=True)
class Ease:
    """`weights` (kept, kept) between the kept items, whose numbers are `kept`, with the scaling of both sides in it."""

    weights: NDArray[np.float32]
    kept: NDArray[np.int64]
    num_items: int
    user_power: float

    def score(self, batch: Batch) -> NDArray[np.float32]:
        """x B for the kept items, −inf for others."""
        lengths = np.maximum(np.diff(batch.chosen.indptr), 1) ** -self.user_power
        scores = np.full((len(batch.users), self.num_items), -np.inf, np.float32)
        scores[:, self.kept] = (batch.chosen[:, self.kept] @ self.weights) * lengths[:, None]
        return batch.nothing_for_cold(scores)


def fit(history: History, settings: RecallSettings) -> Ease:
    """Counts of pairs on Spark; the inverse on the driver, for the `ease_items` most chosen items."""
    popularity = history.popularity
    popular = np.sort(np.argsort(-popularity, kind="stable")[: settings.ease_items])
    popular = popular[popularity[popular] > 0]
    place = np.full(history.num_items, -1)
    place[popular] = np.arange(len(popular))
    pairs: pd.DataFrame = history.pairs.select("item", "other", "scaled").toPandas()
    rows, columns = place[pairs["item"]], place[pairs["other"]]
    both = (rows >= 0) & (columns >= 0)
    gram = np.zeros((len(popular), len(popular)))
    gram[rows[both], columns[both]] = pairs["scaled"].to_numpy()[both]
    return Ease(weights_of(gram, popularity[popular], settings), popular, history.num_items, settings.ease_user_power)


def weights_of(
    gram: NDArray[np.float64], popularity: NDArray[np.float64], settings: RecallSettings
) -> NDArray[np.float32]:
    """Weights (items, items) from Σ_u n_u^(−2a) x_ui x_uj and the number of users of each item."""
    if not len(gram):
        return np.zeros((0, 0), np.float32)
    # Scaled to mean 1, so that λ means the same for any powers.
    users = popularity.sum() / max(np.trace(gram), 1e-12)
    column = (popularity / popularity.mean()) ** -settings.ease_item_power
    scaled = gram * users * np.outer(column, column)
    scaled[np.diag_indices_from(scaled)] += settings.ease_l2
    inverse = linalg.inv(scaled, overwrite_a=True, check_finite=False)
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return np.asarray(weights * column[:, None] / column[None, :], np.float32)
