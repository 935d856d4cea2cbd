"""Quality of predicted clicks on Spark, for sets of any size: the same numbers as `training/tasks/metrics.py`."""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F


def click_metrics(scored: DataFrame) -> dict[str, float]:
    """auc, gauc, log_loss, ece and rows of rows with label (0 or 1), score (a probability) and user_id.

    AUC and GAUC are left out where there is one class only. Nothing is gathered but sums.
    """
    told = measure(scored)
    return told | {"ece": calibration_error(scored)} | gauc(scored)


def measure(scored: DataFrame) -> dict[str, float]:
    """auc, log_loss and rows of (label, score) rows, ties in the score counted as half.

    AUC = (sum of the positives' mean ranks − P(P+1)/2) / (P·N), from one row per distinct score.
    """
    per_score = scored.groupBy("score").agg(
        F.count("*").alias("rows"), F.sum("label").alias("positives"), F.sum(_loss()).alias("loss")
    )
    before = Window.orderBy("score").rowsBetween(Window.unboundedPreceding, -1)
    ranked = per_score.withColumn("rank", F.coalesce(F.sum("rows").over(before), F.lit(0)) + (F.col("rows") + 1) / 2)
    sums = ranked.agg(
        F.sum("rows").alias("rows"),
        F.sum("positives").alias("positives"),
        F.sum("loss").alias("loss"),
        F.sum(F.col("rank") * F.col("positives")).alias("ranks"),
    ).collect()[0]
    rows = float(sums["rows"] or 0)
    if not rows:
        return {"rows": 0.0}
    told = {"log_loss": float(sums["loss"]) / rows, "rows": rows}
    positives, negatives = float(sums["positives"]), rows - float(sums["positives"])
    if positives and negatives:
        told["auc"] = (float(sums["ranks"]) - positives * (positives + 1) / 2) / (positives * negatives)
    return told


def gauc(scored: DataFrame) -> dict[str, float]:
    """{"gauc": mean AUC of users weighted by their rows}, over users with both classes; empty without such a user."""
    user = Window.partitionBy("user_id")
    ordered = user.orderBy("score")
    # Mean rank of ties: from the first rank of equal scores and how many they are.
    ties = F.count("*").over(Window.partitionBy("user_id", "score"))
    ranked = scored.withColumn("mean_rank", F.rank().over(ordered) + (ties - 1) / 2)
    p, n = F.col("positives"), F.col("rows") - F.col("positives")
    per_user = ranked.groupBy("user_id").agg(
        F.count("*").alias("rows"),
        F.sum("label").alias("positives"),
        F.sum(F.col("mean_rank") * F.col("label")).alias("ranks"),
    )
    found = per_user.where((p > 0) & (n > 0)).agg(
        F.sum(F.col("rows") * (F.col("ranks") - p * (p + 1) / 2) / (p * n)).alias("sum"), F.sum("rows").alias("rows")
    )
    row = found.collect()[0]
    return {"gauc": float(row["sum"]) / float(row["rows"])} if row["rows"] else {}


def calibration_error(scored: DataFrame, bins: int = 10) -> float:
    """Mean |prediction − share of positives| over bins of as many rows each, by prediction; equal scores stay in order.

    Bins are those of ranks: the first rows % bins have one row more, as numpy's array_split has it.
    """
    total = scored.count()
    if not total:
        return 0.0
    place = F.row_number().over(Window.orderBy("score")) - 1
    size, larger = divmod(total, bins)
    head = larger * (size + 1)
    number = F.when(place < head, F.floor(place / (size + 1))).otherwise(
        larger + F.floor((place - head) / max(size, 1))
    )
    per_bin = scored.withColumn("bin", number).groupBy("bin")
    gaps = per_bin.agg(F.count("*").alias("rows"), F.abs(F.avg("score") - F.avg("label")).alias("gap"))
    return float(gaps.agg(F.sum(F.col("gap") * F.col("rows")) / total).collect()[0][0])


def _loss() -> Column:
    p = F.greatest(F.least(F.col("score"), F.lit(1 - 1e-7)), F.lit(1e-7))
    return -F.when(F.col("label") == 1, F.log(p)).otherwise(F.log(1 - p))
