"""The metrics of `classification` and `ranking` computed on Spark, for sets of any size; tested equal to those."""

import math
from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from features.metrics.classification import CLIP
from features.metrics.ranking import clip_rounding


def click_metrics(scored: DataFrame) -> dict[str, float]:
    """auc, gauc, log_loss, ece and rows of `scored`, which has label (0 or 1), score (a probability) and user_id.

    auc and gauc are left out where there is one class only. Three shuffles (by score, by user, by rank); only sums
    come to the driver.
    """
    return auc_and_log_loss(scored) | {"ece": calibration_error(scored)} | gauc(scored)


def auc_and_log_loss(scored: DataFrame) -> dict[str, float]:
    """auc, log_loss and rows of (label, score) rows; auc is left out with one class, all but rows without rows.

    AUC = (Σ mean ranks of the positives − P(P+1)/2) / (P·N) (Mann and Whitney 1947). The ranking window runs over one
    row per distinct score, in a single partition.
    """
    per_score = scored.groupBy("score").agg(
        F.count("*").alias("rows"), F.sum("label").alias("positives"), F.sum(_row_log_loss()).alias("loss")
    )
    # Ranks of all rows from counts by score: ties share the mean of their ranks.
    lower_scores = Window.orderBy("score").rowsBetween(Window.unboundedPreceding, -1)
    mean_rank = F.coalesce(F.sum("rows").over(lower_scores), F.lit(0)) + (F.col("rows") + 1) / 2
    sums = (
        per_score.withColumn("rank", mean_rank)
        .agg(
            F.sum("rows").alias("rows"),
            F.sum("positives").alias("positives"),
            F.sum("loss").alias("loss"),
            F.sum(F.col("rank") * F.col("positives")).alias("ranks"),
        )
        .collect()[0]
    )
    rows = float(sums["rows"] or 0)
    if not rows:
        return {"rows": 0.0}
    metrics = {"log_loss": float(sums["loss"]) / rows, "rows": rows}
    p, n = float(sums["positives"]), rows - float(sums["positives"])
    if p and n:  # undefined with one class
        metrics["auc"] = (float(sums["ranks"]) - p * (p + 1) / 2) / (p * n)
    return metrics


def gauc(scored: DataFrame) -> dict[str, float]:
    """{"gauc": mean AUC of users weighted by their rows}, over users with both classes; empty without such a user."""
    by_score = Window.partitionBy("user_id").orderBy("score")
    # Mean rank of ties: from the first rank of equal scores and how many they are.
    ties = F.count("*").over(Window.partitionBy("user_id", "score"))
    ranked = scored.withColumn("mean_rank", F.rank().over(by_score) + (ties - 1) / 2)
    p, n = F.col("positives"), F.col("rows") - F.col("positives")
    user_auc = (F.col("ranks") - p * (p + 1) / 2) / (p * n)
    sums = (
        ranked.groupBy("user_id")
        .agg(
            F.count("*").alias("rows"),
            F.sum("label").alias("positives"),
            F.sum(F.col("mean_rank") * F.col("label")).alias("ranks"),
        )
        .where((p > 0) & (n > 0))
        .agg(F.sum(F.col("rows") * user_auc).alias("auc_sum"), F.sum("rows").alias("rows"))
        .collect()[0]
    )
    return {"gauc": float(sums["auc_sum"]) / float(sums["rows"])} if sums["rows"] else {}


def calibration_error(scored: DataFrame, bins: int = 10) -> float:
    """Mean |prediction − share of positives| over bins of equally many rows, by prediction; 0 without rows.

    Bins are those of numpy's array_split over ranks: the first rows % bins have one row more. Equal scores are shared
    out between neighbouring bins in no particular order.
    """
    total = scored.count()
    if not total:
        return 0.0
    # A window without partition: all scores go through one task, three numbers a row.
    position = F.row_number().over(Window.orderBy("score")) - 1
    size, num_larger = divmod(total, bins)
    head = num_larger * (size + 1)  # rows in the larger bins
    bin_number = F.when(position < head, F.floor(position / (size + 1))).otherwise(
        num_larger + F.floor((position - head) / max(size, 1))
    )
    gaps = (
        scored.withColumn("bin", bin_number)
        .groupBy("bin")
        .agg(F.count("*").alias("rows"), F.abs(F.avg("score") - F.avg("label")).alias("gap"))
    )
    return float(gaps.agg(F.sum(F.col("gap") * F.col("rows")) / total).collect()[0][0])


def ranking_metrics(ranked: DataFrame, truth: DataFrame, ks: Sequence[int]) -> dict[tuple[str, str, int], float]:
    """Means over the users of `truth` of precision, recall, ndcg and map of several lists at once.

    Args:
        ranked: list (a name), user_id, item_id, rank (from 1); items that are not in `truth` may be missing, since
            only hits count.
        truth: one row per user and positive item.
        ks: lengths that lists are cut to.

    Returns:
        {(list, metric, k): value}.
    """
    num_positives = truth.groupby("user_id").agg(F.count("*").alias("num_positives"))
    users = max(num_positives.count(), 1)  # those without a hit count as 0
    by_rank = Window.partitionBy("list", "user_id").orderBy("rank")
    # Only hits count, and these are few.
    hits = (
        ranked.join(truth, on=["user_id", "item_id"], how="inner")
        .join(num_positives, on="user_id", how="inner")
        .withColumn("hit_number", F.row_number().over(by_rank))
    )
    sums: dict[tuple[str, int], Column] = {}
    for k in ks:
        # What a hit adds to each metric of its user.
        gains = {
            "precision": F.lit(1 / k),
            "recall": 1 / F.col("num_positives"),
            "ndcg": 1 / F.log2(F.col("rank") + 1) / _ideal_dcg(k),
            "map": F.col("hit_number") / F.col("rank") / F.col("num_positives"),
        }
        is_listed = F.col("rank") <= k
        sums |= {(metric, k): F.sum(F.when(is_listed, gain).otherwise(0.0)) for metric, gain in gains.items()}
    # All metrics of all lists and lengths in one aggregation.
    columns = [column.alias(f"sum_{i}") for i, column in enumerate(sums.values())]
    rows = hits.groupBy("list").agg(*columns).collect()
    return {
        (row["list"], metric, k): clip_rounding(row[f"sum_{i}"] / users)
        for row in rows
        for i, (metric, k) in enumerate(sums)
    }


def _ideal_dcg(k: int) -> Column:
    """DCG at k of a list with all positives of the user at its first ranks."""
    dcg, dcg_of = 0.0, []
    for rank in range(1, k + 1):
        dcg += 1 / math.log2(rank + 1)
        dcg_of.append(F.lit(dcg))
    return F.element_at(F.array(*dcg_of), F.least(F.col("num_positives"), F.lit(k)).cast("int"))


def _row_log_loss() -> Column:
    p = F.greatest(F.least(F.col("score"), F.lit(1 - CLIP)), F.lit(CLIP))
    return -F.when(F.col("label") == 1, F.log(p)).otherwise(F.log(1 - p))
