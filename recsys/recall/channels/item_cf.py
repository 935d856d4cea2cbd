"""Item-based collaborative filtering (Sarwar et al. 2001; popularity damping as in Breese et al. 1998).

together(i, j) = Σ_u 1/log(1 + n_u) over users u who chose both. Cosine: together / (sqrt(n_i · n_j) + shrink); Jaccard:
together / (n_i + n_j − together + shrink). A user's score for j is the sum over the items they chose, old ones counting
less.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F
from scipy import sparse

from recsys.recall.history import Batch, History
from recsys.settings import RecallSettings


@dataclass(frozen=True)
class ItemCF:
    """`similar` (items, items): the most similar items of each item."""

    similar: sparse.csr_matrix

    def score(self, batch: Batch) -> NDArray[np.float32]:
        """Items like those that the user chose."""
        return batch.nothing_for_cold((batch.recent @ self.similar).toarray())


def fit(history: History, settings: RecallSettings) -> ItemCF:
    """Similarities on Spark; what comes back is `neighbours` a item."""
    pairs: pd.DataFrame = similarity(history, settings).toPandas()
    shape = (history.num_items, history.num_items)
    values = pairs["similarity"].to_numpy(np.float32)
    return ItemCF(sparse.csr_matrix((values, (pairs["item"], pairs["other"])), shape=shape))


def similarity(history: History, settings: RecallSettings) -> DataFrame:
    """item, other, similarity: the most similar items of each item."""
    pairs = history.pairs
    counts = history.histories.select(F.explode("items").alias("item")).groupBy("item").agg(F.count("*").alias("users"))
    others = counts.select(F.col("item").alias("other"), F.col("users").alias("other_users"))
    both = F.col("users") + F.col("other_users")
    cosine = F.sqrt(F.col("users") * F.col("other_users"))
    norm = cosine if settings.similarity == "cosine" else both - F.col("damped")
    scored = (
        pairs.where("item <> other")
        .join(F.broadcast(counts), on="item", how="inner")
        .join(F.broadcast(others), on="other", how="inner")
        .select("item", "other", (F.col("damped") / (norm + settings.shrink)).alias("similarity"))
    )
    best = Window.partitionBy("item").orderBy(F.desc("similarity"), "other")
    return scored.withColumn("nth", F.row_number().over(best)).where(F.col("nth") <= settings.neighbours).drop("nth")
