"""What share of the positives that came a channel had proposed, on Spark: recall@k, a mean over users."""

from collections.abc import Mapping, Sequence

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from conf.runs import Run


def measure_channels(proposed: Mapping[str, DataFrame], truth: DataFrame, ks: Sequence[int], found: Run) -> None:
    """Write recall@k of every channel into the run folder; `truth` has a row per user and positive item."""
    num_users = truth.select("user_id").distinct().count()
    wanted = truth.groupBy("user_id").agg(F.count("*").alias("wanted"))
    for name, rows in proposed.items():
        best = Window.partitionBy("user_id").orderBy(F.desc("score"), "item_id")
        ranked = rows.withColumn("place", F.row_number().over(best))
        hits = ranked.join(truth, on=["user_id", "item_id"], how="inner")
        shares = [F.sum(F.when(F.col("place") <= k, 1).otherwise(0) / F.col("wanted")).alias(f"r{k}") for k in ks]
        sums = hits.join(wanted, on="user_id", how="inner").agg(*shares, F.count("*").alias("hits")).collect()[0]
        for k in ks:
            found.metric(
                "recall", "holdout", "recall", (sums[f"r{k}"] or 0.0) / max(num_users, 1), num_users, k=k, model=name
            )
