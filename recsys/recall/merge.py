"""Merge channels into one candidate list a user: quotas, no doubles, and which channels proposed what."""

from collections.abc import Mapping
from functools import reduce

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

RRF = 60.0  # Cormack et al. 2009: reciprocal rank fusion


def merge(proposed: Mapping[str, DataFrame], quota: Mapping[str, int]) -> DataFrame:
    """user_id, item_id, channels (best first, joined by +), score, rank.

    Scores of different channels can't be compared, their ranks can: score = Σ 1 / (60 + rank in the channel).
    """
    parts = []
    for order, (name, rows) in enumerate(proposed.items()):
        best = Window.partitionBy("user_id").orderBy(F.desc("score"), "item_id")
        ranked = rows.withColumn("rank", F.row_number().over(best)).where(F.col("rank") <= quota[name])
        parts.append(
            ranked.select("user_id", "item_id", "rank", F.lit(order).alias("order"), F.lit(name).alias("channel"))
        )
    union = reduce(DataFrame.unionByName, parts)
    by_rank = F.array_sort(F.collect_list(F.struct("rank", "order", "channel")))
    merged = union.groupBy("user_id", "item_id").agg(
        F.array_join(by_rank["channel"], "+").alias("channels"), F.sum(1 / (F.lit(RRF) + F.col("rank"))).alias("score")
    )
    best = Window.partitionBy("user_id").orderBy(F.desc("score"), "item_id")
    return merged.withColumn("rank", F.row_number().over(best))
