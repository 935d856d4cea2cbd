"""What channels share: the newest items of a user, and the best that the user has not seen."""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F


def newest_items(history: DataFrame, limit: int) -> DataFrame:
    """The last `limit` different items of each user: user_id, item_id, at."""
    once = history.groupBy("user_id", "item_id").agg(F.max("at").alias("at"))
    newest = Window.partitionBy("user_id").orderBy(F.desc("at"), "item_id")
    return once.withColumn("nth", F.row_number().over(newest)).where(F.col("nth") <= limit).drop("nth")


def top_unseen(scored: DataFrame, seen: DataFrame, k: int) -> DataFrame:
    """The k best of `scored` (user_id, item_id, score) for each user, without pairs of `seen`; ties by item."""
    pairs = seen.select("user_id", "item_id").distinct()
    best = Window.partitionBy("user_id").orderBy(F.desc("score"), "item_id")
    unseen = scored.join(pairs, on=["user_id", "item_id"], how="left_anti")
    picked = unseen.withColumn("nth", F.row_number().over(best)).where(F.col("nth") <= k)
    return picked.select("user_id", "item_id", F.col("score").cast("double").alias("score"))
