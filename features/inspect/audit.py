"""Finds features that know the future: change everything from a moment on, and see which earlier features change.

A feature of an impression may use only what was known before the impression. So whatever happens later, labels
flipped, rows gone, rows added, must leave it as it was.
"""

from collections.abc import Callable
from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from features.catalog import COLUMNS

Compute = Callable[[DataFrame], DataFrame]


def find_leaks(examples: DataFrame, compute: Compute, day: date, key: str = "example_id") -> list[str]:
    """Names of the features of rows up to and including `day` that change with the rows of `day` and later.

    `compute` makes features (columns `f_<name>` or others, beside `key`) of labelled examples with `day` and `label`,
    counting whatever it counts among those same examples. Three other futures are tried: labels from `day` on are
    flipped; rows after `day` are gone; rows from `day` on are there twice. Empty when nothing leaks.
    """
    is_future = F.col("day") >= F.lit(day)
    flipped = examples.withColumn("label", F.when(is_future, 1 - F.col("label")).otherwise(F.col("label")))
    gone = examples.where(F.col("day") <= F.lit(day))
    copies = examples.where(is_future).withColumn(key, F.concat(F.col(key).cast("string"), F.lit("-again")))
    doubled = examples.unionByName(copies)
    wanted = examples.where(F.col("day") <= F.lit(day)).select(key)
    kept = {*examples.columns}
    found = compute(examples).join(wanted, on=key, how="left_semi").persist()
    try:
        names = [name for name in found.columns if name not in kept]
        leaks = set()
        for other in (flipped, gone, doubled):
            renamed = compute(other).select(key, *[F.col(name).alias(f"{name}__other") for name in names])
            both = found.join(renamed, on=key, how="inner")
            differ = [
                F.max(~_same(F.col(name), F.col(f"{name}__other"), dict(found.dtypes)[name])).alias(name)
                for name in names
            ]
            row = both.agg(*differ).collect()[0]
            leaks |= {name for name in names if row[name]}
    finally:
        found.unpersist()
    order = [f"f_{feature.name}" for feature in COLUMNS]
    return sorted(leaks, key=lambda name: (order.index(name) if name in order else len(order), name))


def _same(a: Column, b: Column, kind: str) -> Column:
    """Equal, numbers up to the order of sums."""
    if kind not in ("float", "double"):
        return a.eqNullSafe(b)
    close = F.abs(a - b) <= 1e-6 * F.greatest(F.abs(a), F.abs(b), F.lit(1.0))
    return a.eqNullSafe(b) | F.coalesce(close, F.lit(False))
