"""Few clicks among many impressions (requirement F8): fewer negatives, more positives, or weights.

What changes the click rate also gives each row a `weight` that undoes it, so that a model that heeds weights still
predicts the true rate (McMahan et al. 2013, section 6.3).
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from features.dataset.draws import uniform


def under_sample(rows: DataFrame, rate: float, seed: int = 7, key: str = "example_id") -> DataFrame:
    """All positives, and `rate` of the negatives with weight 1 / rate; the draw is a hash of `key`."""
    if not 0 < rate <= 1:
        raise ValueError(f"a rate is over 0 and at most 1, not {rate}")
    is_positive = F.col("label") > 0
    return rows.where(is_positive | (uniform(key, F.lit(seed)) < rate)).withColumn(
        "weight", F.when(is_positive, 1.0).otherwise(1.0 / rate)
    )


def over_sample(rows: DataFrame, times: float, seed: int = 7, key: str = "example_id") -> DataFrame:
    """Each positive `times` times (a part of a time by chance), each of weight 1 / times."""
    if times < 1:
        raise ValueError(f"positives can be there once or more, not {times} times")
    copies = F.lit(int(times)) + (uniform(key, F.lit(seed)) < times - int(times)).cast("int")
    positives = rows.where("label > 0").withColumn("copy", F.explode(F.sequence(F.lit(1), copies))).drop("copy")
    negatives = rows.where("label <= 0").withColumn("weight", F.lit(1.0))
    return positives.withColumn("weight", F.lit(1.0 / times)).unionByName(negatives)


def class_weights(rows: DataFrame) -> dict[int, float]:
    """Weight of each label so that all labels weigh the same: rows / (labels × rows of the label)."""
    counts = {int(row["label"]): int(row["count"]) for row in rows.groupBy("label").count().collect()}
    return {label: sum(counts.values()) / (len(counts) * count) for label, count in sorted(counts.items())}
