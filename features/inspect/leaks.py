"""Finds features that know the future: change everything from a day on, and see which earlier features change.

A feature of an impression may use only what was known before the impression. So whatever happens later, labels
flipped, rows removed, rows added, must leave it as it was.
"""

from collections.abc import Callable
from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

TOLERANCE = 1e-6  # sums in another order differ in their last digits


def find_leaks(
    examples: DataFrame, compute: Callable[[DataFrame], DataFrame], day: date, key: str = "example_id"
) -> list[str]:
    """Columns of rows up to and including `day` that change with the rows of `day` and later.

    Three other futures are tried: labels from `day` on are flipped; rows after `day` are removed; rows from `day` on
    are there twice. Costs four runs of `compute`.

    Args:
        examples: labelled, with `day`, `label` and `key`.
        compute: adds columns to labelled examples, counting whatever it counts among those same examples.
        day: last day of the rows whose features are compared.
        key: identifies a row.

    Returns:
        Names of the added columns that change, in their order; empty when nothing leaks.
    """
    is_future = F.col("day") >= F.lit(day)
    flipped = examples.withColumn("label", F.when(is_future, 1 - F.col("label")).otherwise(F.col("label")))
    removed = examples.where(F.col("day") <= F.lit(day))
    # Other keys, since rows are joined by them below.
    copies = examples.where(is_future).withColumn(key, F.concat(F.col(key).cast("string"), F.lit("-again")))
    doubled = examples.unionByName(copies)
    compared_rows = examples.where(F.col("day") <= F.lit(day)).select(key)
    # Kept in memory: it is compared with each of the futures.
    actual = compute(examples).join(compared_rows, on=key, how="left_semi").persist()
    try:
        types = {name: kind for name, kind in actual.dtypes if name not in examples.columns}
        leaks: set[str] = set()
        for future in (flipped, removed, doubled):
            other = compute(future).select(key, *[F.col(name).alias(f"{name}__other") for name in types])
            is_changed = [
                F.max(~_is_equal(F.col(name), F.col(f"{name}__other"), kind)).alias(name)
                for name, kind in types.items()
            ]
            # One row comes to the driver, whatever the number of examples.
            row = actual.join(other, on=key, how="inner").agg(*is_changed).collect()[0]
            leaks |= {name for name in types if row[name]}
    finally:
        actual.unpersist()
    return [name for name in types if name in leaks]


def find_list_leaks(
    examples: DataFrame,
    acts: DataFrame,
    add_lists: Callable[[DataFrame, DataFrame], DataFrame],
    key: str = "example_id",
) -> list[str]:
    """Lists of rows up to a moment that change with acts of that moment and later.

    The moment is the median of the rows'. Two other futures are tried: acts from it on are removed, or there twice.

    Args:
        examples: with `at` and `key`.
        acts: with `at`.
        add_lists: adds lists to rows, of acts.
        key: identifies a row.

    Returns:
        Names of the lists that change, in their order.
    """
    (moment,) = examples.select(F.percentile_approx(F.col("at").cast("double"), 0.5)).collect()[0]
    is_later = F.col("at").cast("double") >= F.lit(moment)
    rows = examples.where(F.col("at").cast("double") <= F.lit(moment))
    actual = add_lists(rows, acts)
    names = [name for name in actual.columns if name not in examples.columns]
    leaks: set[str] = set()
    for future in (acts.where(~is_later), acts.unionByName(acts.where(is_later))):
        other = add_lists(rows, future).select(key, *[F.col(name).alias(f"{name}__other") for name in names])
        is_changed = [F.max(~F.col(name).eqNullSafe(F.col(f"{name}__other"))).alias(name) for name in names]
        row = actual.join(other, on=key, how="inner").agg(*is_changed).collect()[0]
        leaks |= {name for name in names if row[name]}
    return [name for name in names if name in leaks]


def _is_equal(a: Column, b: Column, kind: str) -> Column:
    if kind not in ("float", "double"):
        return a.eqNullSafe(b)
    is_close = F.abs(a - b) <= TOLERANCE * F.greatest(F.abs(a), F.abs(b), F.lit(1.0))
    return a.eqNullSafe(b) | F.coalesce(is_close, F.lit(False))
