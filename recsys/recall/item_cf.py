"""Item-based collaborative filtering (Sarwar et al. 2001; popularity damping as in Breese et al. 1998), on Spark.

sim(i, j) = Σ_u 1/log(1 + n_u) / (sqrt(n_i · n_j) + shrink) over users u who chose both; a user's score for j is the sum
over the items they chose.
"""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from recsys.recall.pick import newest_items, top_unseen
from recsys.settings import RecallSettings


def recall(history: DataFrame, users: DataFrame, settings: RecallSettings, k: int) -> DataFrame:
    """Items like those that the user chose."""
    chosen = newest_items(history, settings.history)
    similar = similarity(chosen, settings)
    of_users = chosen.join(users, on="user_id", how="left_semi").select("user_id", "item_id")
    scored = (
        of_users.join(similar, on="item_id", how="inner")
        .groupBy("user_id", F.col("other_id").alias("item_id"))
        .agg(F.sum("similarity").alias("score"))
    )
    return top_unseen(scored, history, k)


def similarity(chosen: DataFrame, settings: RecallSettings) -> DataFrame:
    """item_id, other_id, similarity: the most similar items of each item."""
    per_user = chosen.groupBy("user_id").agg(F.count("*").alias("num_items"))
    per_item = chosen.groupBy("item_id").agg(F.count("*").alias("num_users"))
    left = chosen.select("user_id", "item_id").join(per_user, on="user_id", how="inner")
    right = chosen.select("user_id", F.col("item_id").alias("other_id"))
    together = (
        left.join(right, on="user_id", how="inner")
        .where(F.col("item_id") != F.col("other_id"))
        .groupBy("item_id", "other_id")
        .agg(F.sum(1 / F.log1p("num_items")).alias("together"))
    )
    others = per_item.select(F.col("item_id").alias("other_id"), F.col("num_users").alias("num_others"))
    norm = F.sqrt(F.col("num_users") * F.col("num_others")) + settings.shrink
    scored = (
        together.join(per_item, on="item_id", how="inner")
        .join(others, on="other_id", how="inner")
        .select("item_id", "other_id", (F.col("together") / norm).alias("similarity"))
    )
    best = Window.partitionBy("item_id").orderBy(F.desc("similarity"), "other_id")
    return scored.withColumn("nth", F.row_number().over(best)).where(F.col("nth") <= settings.neighbours).drop("nth")
