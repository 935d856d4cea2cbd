"""A linear item model in closed form: EASE (Steck 2019), on a matrix scaled by users' and items' counts.

With X̃ = D_u^(−a) X D_i^(−b), G = X̃ᵀX̃ and P = (G + λI)⁻¹, the weights are B = −P / diag(P) with zero diagonal; a score
is x̃ B, scaled back by n_i^b. Powers of 0 give the published model; 0.25 keeps heavy users and popular items from
dominating.
"""

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import functions as F

from recsys.recall import kernels
from recsys.recall.channels.linear import LinearModel, inverse, popular_items
from recsys.recall.history import History, UserBatch
from recsys.recall.lists import TopItems, in_threads
from recsys.settings import RecallSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EaseScorer:
    """Weights between the most popular items, with the scaling of both sides multiplied in."""

    model: LinearModel
    user_power: float

    def top_items(self, batch: UserBatch, k: int) -> TopItems:
        """Popular items by x̃ B."""
        scale = (np.maximum(np.diff(batch.chosen.indptr), 1) ** -self.user_power).astype(np.float32)  # (users,)
        # EASE has a model of items alone: no user has a part of their own in it to be taken out.
        nobody = np.full(len(batch.users), -1)
        return self.model.top_items(
            batch, k, scale, nobody, np.zeros((0, len(self.model.popular)), np.float32), np.zeros(0, np.float32)
        )


def fit(history: History, settings: RecallSettings) -> EaseScorer:
    """Sum the Gram matrix of the `ease_items` most popular items and invert it on the driver.

    The driver holds two dense matrices of float64: 400 MB for 5,000 items.
    """
    popularity = history.popularity
    popular = popular_items(popularity, settings.ease_items)
    if len(popular) < (num_chosen := int((popularity > 0).sum())):
        log.info(
            "ease: %d items were chosen, more than recall.ease_items: the %d most popular ones are proposed and read",
            num_chosen, len(popular),
        )  # fmt: skip
    weights = ease_weights(_gram(history, popular, settings), popularity[popular], settings)
    return EaseScorer(LinearModel(weights, popular, history.num_items), settings.ease_user_power)


def _gram(history: History, popular: NDArray[np.int64], settings: RecallSettings) -> NDArray[np.float64]:
    """(popular, popular) Σ_u n_u^(−2a) x_ui x_uj."""
    gram = np.zeros((len(popular), len(popular)))
    if history.all_users is not None:
        # Of the whole history, also of items that are not among the popular ones: it is the user's weight.
        lengths = np.maximum(np.diff(history.all_users.chosen.indptr), 1)
        chosen = history.all_users.chosen[:, popular]
        users = chosen.T.tocsr()  # (popular, users)
        scale = lengths ** (-2.0 * settings.ease_user_power)
        matrices = (users.indptr, users.indices, scale, chosen.indptr, chosen.indices)
        in_threads(kernels.gram_rows, len(gram), *matrices, gram)
        return gram
    position = np.full(history.num_items, -1)  # item number -> row of the matrix
    position[popular] = np.arange(len(popular))
    # Cut on Spark: pairs of all items would not fit the driver.
    items = history.histories.sparkSession.createDataFrame([(int(item),) for item in popular], "item int")
    pairs = history.pairs.select("item", "other", "scaled").join(F.broadcast(items), on="item", how="left_semi")
    others = items.withColumnRenamed("item", "other")
    frame: pd.DataFrame = pairs.join(F.broadcast(others), on="other", how="left_semi").toPandas()
    gram[position[frame["item"]], position[frame["other"]]] = frame["scaled"]
    return gram


def ease_weights(
    gram: NDArray[np.float64], popularity: NDArray[np.float64], settings: RecallSettings
) -> NDArray[np.float32]:
    """Solve for the weights between items (Steck 2019, equation 8); time grows with the cube of the items.

    Args:
        gram: (items, items) Σ_u n_u^(−2a) x_ui x_uj; overwritten.
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
    gram *= user_scale * item_scale[:, None]
    gram *= item_scale
    gram[np.diag_indices_from(gram)] += settings.ease_l2
    weights = inverse(gram)  # P of equation 8
    weights /= -np.diag(weights).copy()
    np.fill_diagonal(weights, 0)
    # Multiplied into the weights, so that scores need no scaling: D_i^(−b) B D_i^b.
    weights *= item_scale[:, None]
    weights /= item_scale
    return weights.astype(np.float32)
