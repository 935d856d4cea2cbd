"""A linear item model in closed form: EASE (Steck 2019), on a matrix scaled by users' and items' counts.

With X̃ = D_u^(−a) X D_i^(−b), G = X̃ᵀX̃ and P = (G + λI)⁻¹, the weights are B = −P / diag(P) with zero diagonal; a score
is x̃ B, scaled back by n_i^b. Powers of 0 give the published model; 0.25 keeps heavy users and popular items from
dominating.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import linalg

from recsys.recall.history import History, UserBatch
from recsys.settings import RecallSettings


@dataclass(frozen=True)
class EaseScorer:
    """Weights between the most popular items."""

    weights: NDArray[np.float32]  # (popular, popular), with the scaling of both sides multiplied in
    popular: NDArray[np.int64]  # (popular,) item numbers
    num_items: int
    user_power: float

    def score(self, batch: UserBatch) -> NDArray[np.float32]:
        """x̃ B for the popular items, −inf for the others; (users, items)."""
        lengths = np.maximum(np.diff(batch.chosen.indptr), 1) ** -self.user_power
        scores = np.full((len(batch.users), self.num_items), -np.inf, np.float32)
        scores[:, self.popular] = (batch.chosen[:, self.popular] @ self.weights) * lengths[:, None]
        return batch.mask_cold(scores)


def fit(history: History, settings: RecallSettings) -> EaseScorer:
    """Sum the Gram matrix on Spark, invert it on the driver, for the `ease_items` most popular items.

    The driver holds two dense matrices of float64: 400 MB for 5,000 items.
    """
    popularity = history.popularity
    popular = np.sort(np.argsort(-popularity, kind="stable")[: settings.ease_items])
    popular = popular[popularity[popular] > 0]
    position = np.full(history.num_items, -1)  # item number -> row of the matrix
    position[popular] = np.arange(len(popular))
    pairs: pd.DataFrame = history.pairs.select("item", "other", "scaled").toPandas()
    rows, columns = position[pairs["item"]], position[pairs["other"]]
    is_popular = (rows >= 0) & (columns >= 0)
    gram = np.zeros((len(popular), len(popular)))
    gram[rows[is_popular], columns[is_popular]] = pairs["scaled"].to_numpy()[is_popular]
    weights = ease_weights(gram, popularity[popular], settings)
    return EaseScorer(weights, popular, history.num_items, settings.ease_user_power)


def ease_weights(
    gram: NDArray[np.float64], popularity: NDArray[np.float64], settings: RecallSettings
) -> NDArray[np.float32]:
    """Solve for the weights between items (Steck 2019, equation 8); time grows with the cube of the items.

    Args:
        gram: (items, items) Σ_u n_u^(−2a) x_ui x_uj.
        popularity: (items,) number of users of each item.
        settings: `ease_l2` and `ease_item_power`.

    Returns:
        (items, items), zero on the diagonal.
    """
    if not len(gram):
        return np.zeros((0, 0), np.float32)
    # Both scalings have mean 1, so that λ means the same for any powers.
    user_scale = popularity.sum() / max(np.trace(gram), 1e-12)
    item_scale = (popularity / popularity.mean()) ** -settings.ease_item_power
    scaled = gram * user_scale * np.outer(item_scale, item_scale)
    scaled[np.diag_indices_from(scaled)] += settings.ease_l2
    inverse = linalg.inv(scaled, overwrite_a=True, check_finite=False)
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return np.asarray(weights * item_scale[:, None] / item_scale[None, :], np.float32)
