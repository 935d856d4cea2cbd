"""The best AUC and log loss that any model could reach on a generated day: the true probabilities against the clicks.

The only reader of the simulator's truth. On real data there is none, and the stage writes nothing.
"""

from collections.abc import Sequence
from datetime import date

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from conf import Config, Paths, file_url
from conf.runs import start_run
from etl.tables import dwd
from etl.warehouse import Warehouse

MODEL = "best_possible"


def run(spark: SparkSession, config: Config, day: date, splits: dict[str, Sequence[date]]) -> dict[str, float]:
    """Measure the truth on the days of each split and leave a run folder, dated `day`, for `etl results`."""
    paths = config.get(Paths)
    warehouse = Warehouse(spark, paths)
    told: dict[str, float] = {}
    measured = {
        split: measure(_joined(spark, warehouse, paths, days)) for split, days in splits.items() if _known(paths, days)
    }
    if not measured:
        return told
    with start_run(config, MODEL, day) as folder:
        for split, numbers in measured.items():
            rows = int(numbers.pop("rows"))
            for metric, value in numbers.items():
                folder.metric("evaluate", split, metric, value, rows)
                told[f"{split}_{metric}"] = value
    return told


def _known(paths: Paths, days: Sequence[date]) -> bool:
    return bool(days) and all((paths.truth / f"dt={day.isoformat()}").is_dir() for day in days)


def _joined(spark: SparkSession, warehouse: Warehouse, paths: Paths, days: Sequence[date]) -> DataFrame:
    folders = [file_url(paths.truth / f"dt={day.isoformat()}") for day in days]
    truth = spark.read.parquet(*folders)
    shown = warehouse.read(dwd.impression, days).select("impression_id", F.col("is_clicked").alias("label"))
    return shown.join(truth, on="impression_id", how="inner").select("label", F.col("probability").alias("score"))


def measure(scored: DataFrame) -> dict[str, float]:
    """AUC and log loss of (label, score) rows, ties in the score counted as half, without gathering the rows.

    AUC = (sum of the positives' mean ranks − P(P+1)/2) / (P·N), from one row per distinct score.
    """
    loss = -F.when(F.col("label") == 1, F.log("score")).otherwise(F.log(1 - F.col("score")))
    per_score = scored.groupBy("score").agg(
        F.count("*").alias("rows"), F.sum("label").alias("positives"), F.sum(loss).alias("loss")
    )
    before = Window.orderBy("score").rowsBetween(Window.unboundedPreceding, -1)
    ranked = per_score.withColumn("rank", F.coalesce(F.sum("rows").over(before), F.lit(0)) + (F.col("rows") + 1) / 2)
    sums = ranked.agg(
        F.sum("rows").alias("rows"),
        F.sum("positives").alias("positives"),
        F.sum("loss").alias("loss"),
        F.sum(F.col("rank") * F.col("positives")).alias("ranks"),
    ).collect()[0]
    positives, negatives = sums["positives"], sums["rows"] - sums["positives"]
    auc = (sums["ranks"] - positives * (positives + 1) / 2) / (positives * negatives)
    return {"auc": float(auc), "log_loss": float(sums["loss"] / sums["rows"]), "rows": float(sums["rows"])}
