"""Draws that a rerun repeats, and what they are for: fewer negatives or more positives (requirement F8).

Sampling changes the click rate; each row gets a `weight` that undoes it, so that a model that heeds weights still
predicts the true rate (McMahan et al. 2013, section 6.3).
"""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from features.dataset.names import WEIGHT
from features.settings import FeatureSettings

STEPS = 1_000_000
OWN_WEIGHT = "own_weight"
"""Column of the weight that the site declares; it multiplies that of the sampling."""


def hash_uniform(*columns: Column | str) -> Column:
    """A number from 0 up to (not including) 1, in steps of a millionth, by a hash: equal values, equal draws."""
    step = F.pmod(F.xxhash64(*columns), F.lit(STEPS))  # not %: a hash may be negative
    return step / STEPS


def balance(train: DataFrame, settings: FeatureSettings) -> DataFrame:
    """Training rows sampled and weighted as `features.balance` and the site say.

    With a column `weight`, unless the one is `none` and the other declares no weight.
    """
    balanced = _balanced(train, settings)
    if OWN_WEIGHT not in train.columns:
        return balanced
    weight = F.col(WEIGHT) if WEIGHT in balanced.columns else F.lit(1.0)
    return balanced.withColumn(WEIGHT, (weight * F.col(OWN_WEIGHT)).cast("float"))


def _balanced(train: DataFrame, settings: FeatureSettings) -> DataFrame:
    if settings.balance == "under_sample":
        return under_sample(train, settings.negative_rate, settings.seed)
    if settings.balance == "over_sample":
        return over_sample(train, settings.positive_copies, settings.seed)
    if settings.balance == "class_weights":
        return with_class_weights(train)
    return train


def under_sample(rows: DataFrame, rate: float, seed: int, key: str = "example_id") -> DataFrame:
    """All positives, and `rate` of the negatives with weight 1 / rate; the draw is a hash of `key`.

    Raises:
        ValueError: when the rate is not in (0, 1].
    """
    if not 0 < rate <= 1:
        raise ValueError(f"a rate is over 0 and at most 1, not {rate}")
    is_positive = F.col("label") > 0
    # The seed is part of the hash, and so independent of the draws of splits.
    return rows.where(is_positive | (hash_uniform(key, F.lit(seed)) < rate)).withColumn(
        WEIGHT, F.when(is_positive, 1.0).otherwise(1.0 / rate).cast("float")
    )


def over_sample(rows: DataFrame, copies: float, seed: int, key: str = "example_id") -> DataFrame:
    """Each positive `copies` times (a fraction of a copy by chance), each of weight 1 / copies.

    Raises:
        ValueError: when there would be less than one copy.
    """
    if copies < 1:
        raise ValueError(f"positives can be there once or more, not {copies} times")
    whole = int(copies)  # 2.5 copies: two of each, and a third of every second one
    num_copies = F.lit(whole) + (hash_uniform(key, F.lit(seed)) < copies - whole).cast("int")
    positives = rows.where("label > 0").withColumn("copy", F.explode(F.sequence(F.lit(1), num_copies))).drop("copy")
    negatives = rows.where("label <= 0").withColumn(WEIGHT, F.lit(1.0).cast("float"))
    return positives.withColumn(WEIGHT, F.lit(1.0 / copies).cast("float")).unionByName(negatives)


def with_class_weights(rows: DataFrame) -> DataFrame:
    """All rows, weighted so that both labels weigh the same: rows / (labels × rows of the label)."""
    counts = {row["label"]: int(row["count"]) for row in rows.groupBy("label").count().collect()}
    weight = F.lit(1.0)
    # Two labels: two rows come to the driver.
    for label, count in counts.items():
        weight = F.when(F.col("label") == label, sum(counts.values()) / (len(counts) * count)).otherwise(weight)
    return rows.withColumn(WEIGHT, weight.cast("float"))
