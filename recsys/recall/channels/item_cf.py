"""Item-based collaborative filtering (Sarwar et al. 2001), heavy users damped as in Breese et al. 1998.

co(i, j) = Σ_u 1/log(1 + n_u) over the users u who chose both. Cosine: co(i, j) / (sqrt(n_i · n_j) + shrink). Jaccard:
co(i, j) / (co(i, i) + co(j, j) − co(i, j) + shrink), the union being weighted as the intersection is, so that items
chosen by the same users have 1 without shrinkage. A user's score for j is the sum over their items, old ones counting
less.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F
from scipy import sparse

from recsys.recall import kernels
from recsys.recall.channels.products import top_products
from recsys.recall.history import History, UserBatch
from recsys.recall.lists import TopItems, in_threads
from recsys.settings import RecallSettings


@dataclass(frozen=True)
class ItemCFScorer:
    """Similarities of the nearest neighbours of each item."""

    similarity: sparse.csr_matrix  # (items, items)

    def top_items(self, batch: UserBatch, k: int) -> TopItems:
        """Items by summed similarity to the time-decayed history."""
        return top_products(batch.recent, self.similarity, batch, k, zeros_count=True)


def fit(history: History, settings: RecallSettings) -> ItemCFScorer:
    """Find the `neighbours` most similar items of each: from histories on the driver, or else on Spark."""
    if history.all_users is not None:
        return ItemCFScorer(similar_items(history.all_users.chosen, settings))
    pairs: pd.DataFrame = distributed_similarity(history, settings).toPandas()
    shape = (history.num_items, history.num_items)
    # (item, other) is not symmetric: each item has its own neighbours.
    values = pairs["similarity"].to_numpy(np.float32)
    return ItemCFScorer(sparse.csr_matrix((values, (pairs["item"], pairs["other"])), shape=shape))


def similar_items(chosen: sparse.csr_matrix, settings: RecallSettings) -> sparse.csr_matrix:
    """(items, items) similarities of the `neighbours` most similar items of each, a row of all pairs at a time.

    Args:
        chosen: (users, items) ones.
        settings: `neighbours`, `similarity` and `shrink`.
    """
    users = chosen.T.tocsr()  # (items, users)
    user_weight = 1 / np.log1p(np.maximum(np.diff(chosen.indptr), 1))  # (users,)
    counts, totals = np.diff(users.indptr), users @ user_weight  # (items,) each
    num_items = len(counts)
    neighbours = min(settings.neighbours, max(num_items - 1, 1))
    items, similarity = np.full((num_items, neighbours), -1, np.int32), np.zeros((num_items, neighbours))
    # The diagonal of the pairs is the damped number of an item's users, co(i, i).
    in_threads(
        kernels.similar_rows, num_items,
        users.indptr, users.indices, user_weight, chosen.indptr, chosen.indices, counts, totals, settings.shrink,
        settings.similarity == "cosine", items, similarity,
    )  # fmt: skip
    is_pair = items >= 0  # (items, neighbours)
    indptr = np.concatenate([[0], np.cumsum(is_pair.sum(axis=1))])
    entries = (similarity[is_pair].astype(np.float32), items[is_pair], indptr)
    return sparse.csr_matrix(entries, shape=(num_items, num_items))


def distributed_similarity(history: History, settings: RecallSettings) -> DataFrame:
    """The same on Spark, from `history.pairs`.

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
    # Ties by number, as on the driver: both ways have the same neighbours.
    most_similar = Window.partitionBy("item").orderBy(F.desc("similarity"), "other")
    ranked = pairs.withColumn("rank", F.row_number().over(most_similar))
    return ranked.where(F.col("rank") <= settings.neighbours).drop("rank")
