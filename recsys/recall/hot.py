"""Hot items: those with most positives, old ones counting less. Cold users get these too."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.recall.pick import top_unseen
from recsys.settings import RecallSettings


def recall(history: DataFrame, users: DataFrame, settings: RecallSettings, k: int) -> DataFrame:
    """The same hot items for everybody, less those that the user knows."""
    newest = history.agg(F.max("at").alias("newest"))
    age_days = (F.col("newest").cast("double") - F.col("at").cast("double")) / 86_400
    heat = F.sum(F.pow(F.lit(0.5), age_days / settings.half_life_days)).alias("score")
    hottest = history.crossJoin(F.broadcast(newest)).groupBy("item_id").agg(heat).orderBy(F.desc("score"), "item_id")
    # A user who knows some of the hottest still gets k others.
    offered = hottest.limit(4 * k)
    return top_unseen(users.select("user_id").distinct().crossJoin(F.broadcast(offered)), history, k)
