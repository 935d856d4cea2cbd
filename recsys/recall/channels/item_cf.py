"""Item-based collaborative filtering (Sarwar et al. 2001), heavy users damped as in Breese et al. 1998.

co(i, j) = Σ_u 1/log(1 + n_u) over the users u who chose both. Cosine: co(i, j) / (sqrt(n_i · n_j) + shrink). Jaccard:
co(i, j) / (co(i, i) + co(j, j) − co(i, j) + shrink), the union being weighted as the intersection is, so that items
chosen by the same users have 1 without shrinkage. A user's score for j is the sum over their items, old ones counting
less.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F
from scipy import sparse

from recsys.recall.history import History, UserBatch
from recsys.settings import RecallSettings


@dataclass(frozen=True)
class ItemCFScorer:
    """Similarities of the nearest neighbours of each item."""

    similarity: sparse.csr_matrix  # (items, items)

    def score(self, batch: UserBatch) -> NDArray[np.float32]:
        """Summed similarity (users, items) to the time-decayed history."""
        return batch.mask_cold((batch.recent @ self.similarity).toarray())


def fit(history: History, settings: RecallSettings) -> ItemCFScorer:
    """Compute the similarities on Spark; `neighbours` rows per item come to the driver."""
    pairs: pd.DataFrame = item_similarity(history, settings).toPandas()
    shape = (history.num_items, history.num_items)
    # (item, other) is not symmetric: each item has its own neighbours.
    values = pairs["similarity"].to_numpy(np.float32)
    return ItemCFScorer(sparse.csr_matrix((values, (pairs["item"], pairs["other"])), shape=shape))


def item_similarity(history: History, settings: RecallSettings) -> DataFrame:
    """Find the `neighbours` most similar items of each item.

    Both joins broadcast one row per item; the window is one shuffle by item.

    Returns:
        item, other (numbers) and similarity; an item is no neighbour of itself.
    """
    users = history.histories.select(F.explode("items").alias("item")).groupBy("item").agg(F.count("*").alias("users"))
    # The diagonal of the pairs is the damped number of an item's users, co(i, i).
    totals = history.pairs.where("item = other").select("item", F.col("damped").alias("total"))
    sizes = users.join(totals, on="item", how="inner")
    other_sizes = sizes.withColumnsRenamed({"item": "other", "users": "other_users", "total": "other_total"})
    cosine_norm = F.sqrt(F.col("users") * F.col("other_users"))
    jaccard_norm = F.col("total") + F.col("other_total") - F.col("damped")
    norm = cosine_norm if settings.similarity == "cosine" else jaccard_norm
    pairs = (
        history.pairs.where("item <> other")
        .join(F.broadcast(sizes), on="item", how="inner")
        .join(F.broadcast(other_sizes), on="other", how="inner")
        .select("item", "other", (F.col("damped") / (norm + settings.shrink)).alias("similarity"))
    )
    most_similar = Window.partitionBy("item").orderBy(F.desc("similarity"), "other")
    ranked = pairs.withColumn("rank", F.row_number().over(most_similar))
    return ranked.where(F.col("rank") <= settings.neighbours).drop("rank")
