"""Matrix factorisation of implicit feedback by alternating least squares (Hu et al. 2008), on MLlib.

MLlib fits the item factors. A user's vector is solved when the user is scored, from their history and the same normal
equations, so that users who came after training have one too:

    u = (YᵀY + α Y_uᵀY_u + λ (n_u + items / α) I)⁻¹ (1 + α) Σ y,    λ scaled as in Rendle et al. 2022.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.ml.recommendation import ALS
from pyspark.sql import functions as F

from recsys.recall.history import History, UserBatch
from recsys.settings import RecallSettings


@dataclass(frozen=True)
class AlsScorer:
    """Item factors and the hyper-parameters that a user's vector is solved with."""

    items: NDArray[np.float64]  # (items, rank); zeros for items that nobody chose
    alpha: float
    l2: float

    def score(self, batch: UserBatch) -> NDArray[np.float32]:
        """Inner products of user and item factors (users, items); one solve of (rank, rank) per user."""
        rank = self.items.shape[1]
        gram = self.items.T @ self.items  # YᵀY: (rank, rank), shared by all users
        users = np.zeros((len(batch.users), rank))  # a cold user keeps zeros
        for row in range(len(users)):
            y = self.items[batch.chosen.indices[batch.chosen.indptr[row] : batch.chosen.indptr[row + 1]]]  # (n_u, rank)
            ridge = self.l2 * (len(y) + len(self.items) / self.alpha) * np.eye(rank)
            users[row] = np.linalg.solve(gram + self.alpha * y.T @ y + ridge, (1 + self.alpha) * y.sum(axis=0))
        return batch.mask_cold(users @ self.items.T)


def fit(history: History, settings: RecallSettings) -> AlsScorer:
    """Fit MLlib's implicit ALS on the histories.

    Users are numbered in the order of their ids: MLlib's random start depends on the numbers.
    """
    numbered = (
        history.histories.select("user_id", "items")
        .rdd.sortBy(lambda row: row["user_id"])
        .zipWithIndex()
        .map(lambda pair: (int(pair[1]), [int(item) for item in pair[0]["items"]]))
        .toDF("user int, items array<int>")
    )
    ratings = numbered.select("user", F.explode("items").alias("item"), F.lit(1.0).cast("float").alias("rating"))
    items = np.zeros((history.num_items, settings.als_rank))
    if ratings.isEmpty():  # MLlib fails on it
        return AlsScorer(items, settings.als_alpha, settings.als_user_l2)
    blocks = settings.als_blocks or ratings.sparkSession.sparkContext.defaultParallelism
    als = ALS(
        rank=settings.als_rank, maxIter=settings.als_iterations, regParam=settings.als_l2, alpha=settings.als_alpha,
        implicitPrefs=True, userCol="user", itemCol="item", ratingCol="rating", seed=settings.seed,
        numUserBlocks=blocks, numItemBlocks=blocks,
    )  # fmt: skip
    factors: pd.DataFrame = als.fit(ratings).itemFactors.toPandas()
    items[factors["id"]] = np.stack(factors["features"])
    return AlsScorer(items, settings.als_alpha, settings.als_user_l2)
