"""Examples -> feature columns, by the catalog: hashed ids and standardised numbers."""

from dataclasses import dataclass
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from features.catalog import COLUMNS, DENSE, Dense, Sparse, index_of
from features.counts import with_counts


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of each dense feature over the training rows."""

    mean: dict[str, float]
    deviation: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        return {"mean": self.mean, "deviation": self.deviation}


def raw_features(
    examples: DataFrame, users: DataFrame, items: DataFrame, known: DataFrame, prior_strength: float
) -> DataFrame:
    """Add every feature, dense ones not standardised yet, under its name with a leading `f_`.

    `known` are the examples that counts may be taken from: those of the training split.
    """
    user_columns = users.select("user_id", "gender", "age_group", "city")
    item_columns = items.select("item_id", "category", "author", "published_at")
    joined = examples.join(user_columns, on="user_id", how="left").join(
        F.broadcast(item_columns), on="item_id", how="left"
    )
    counted = with_counts(joined, known.join(F.broadcast(item_columns), on="item_id", how="left"), prior_strength)
    return counted.select(*examples.columns, *[_raw(feature).alias(f"f_{feature.name}") for feature in COLUMNS])


def _raw(feature: Sparse | Dense) -> Column:
    value = F.expr(feature.source)
    if isinstance(feature, Dense):
        return (F.log1p(value) if feature.transform == "log1p" else value).cast("float")
    # Bucket 0 is for missing values; the index keeps equal values of two features apart.
    hashed = F.pmod(F.xxhash64(F.lit(index_of(feature)), value.cast("string")), F.lit(feature.buckets - 1)) + 1
    return F.when(value.isNull(), F.lit(0)).otherwise(hashed).cast("bigint")


def fit(train: DataFrame) -> Statistics:
    """Statistics from the rows of the training split, and from no others."""
    sums = [
        f(f"f_{feature.name}").alias(f"{name}_{feature.name}")
        for feature in DENSE
        for name, f in (("m", F.avg), ("d", F.stddev_pop))
    ]
    row = train.agg(*sums).collect()[0]
    mean = {feature.name: float(row[f"m_{feature.name}"] or 0.0) for feature in DENSE}
    deviation = {feature.name: float(row[f"d_{feature.name}"] or 0.0) or 1.0 for feature in DENSE}
    return Statistics(mean, deviation)


def standardise(rows: DataFrame, statistics: Statistics) -> DataFrame:
    """(x − mean) / deviation for dense features; a missing value becomes 0, the mean."""
    scaled = {}
    for feature in DENSE:
        value = (F.col(f"f_{feature.name}") - statistics.mean[feature.name]) / statistics.deviation[feature.name]
        scaled[f"f_{feature.name}"] = F.coalesce(value, F.lit(0.0)).cast("float")
    return rows.withColumns(scaled)
