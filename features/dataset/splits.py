"""Which example trains, which is for validation, which tests: a column `split` with train, valid or test.

By day and by time, every test row is later than every training row. At random means stratified by item: each item has
the same share of its pairs in the test rows, as public benchmarks have it.
"""

from collections.abc import Callable
from datetime import date, timedelta

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from conf import UserError
from conf.console.cli import one_of
from features.dataset.sampling import hash_uniform
from features.settings import FeatureSettings

# Splits in which every test row is later than every training row.
TIME_ORDERED = ("day", "time")
# The same of the rows of each user alone.
USER_ORDERED = (*TIME_ORDERED, "leave-one-out")


def split_by_day(examples: DataFrame, settings: FeatureSettings, day: date) -> DataFrame:
    """Test rows are of the last days up to `day`, validation rows of the days before those, training rows of the rest.

    Args:
        examples: with `day`.
        settings: `test_days` and `valid_days`.
        day: the last one.
    """
    first_test = day - timedelta(days=settings.test_days - 1)
    first_valid = first_test - timedelta(days=settings.valid_days)
    return examples.withColumn("split", _split_from(F.col("day"), F.lit(first_valid), F.lit(first_test)))


def split_by_method(examples: DataFrame, settings: FeatureSettings, method: str) -> DataFrame:
    """Split by one of SPLIT_METHODS, with shares from the settings.

    Raises:
        UsageError: for another method.
    """
    one_of("split", method, SPLIT_METHODS)
    return SPLIT_METHODS[method](examples, settings)


def _by_time(examples: DataFrame, settings: FeatureSettings) -> DataFrame:
    """Bounds are exact quantiles of the times of the positives, so that each split has its share of them.

    Raises UserError when there are no positives.
    """
    valid_share, test_share = _holdout_shares(examples, settings, settings.test_share)
    # An error of 0 makes approxQuantile exact, and so the same on every run.
    times = examples.where("label = 1").select(F.col("at").cast("double").alias("at"))
    bounds = times.approxQuantile("at", [1 - test_share - valid_share, 1 - test_share], 0.0)
    if not bounds:
        raise UserError("a split by time needs positives, whose times it follows, and there are none")
    first_valid, first_test = bounds
    return examples.withColumn("split", _split_from(F.col("at").cast("double"), F.lit(first_valid), F.lit(first_test)))


def _at_random(examples: DataFrame, settings: FeatureSettings) -> DataFrame:
    """Of each item's pairs `random_test_share` test, of the others `valid_share` validate, drawn by a hash of the pair.

    A repeated pair is never in two splits. Shares of an item are rounded to whole pairs, of negatives and positives
    each.
    """
    valid_share, test_share = _holdout_shares(examples, settings, settings.random_test_share)
    pairs = examples.select("user_id", "item_id", "label").distinct()
    draw = F.xxhash64("user_id", "item_id", F.lit(settings.seed))  # the same whichever partition a pair is in
    of_item = Window.partitionBy("item_id", "label")
    num_pairs = F.count("*").over(of_item)
    num_rest = F.round(num_pairs * (1 - test_share))
    # Ranked by the hash: exact shares, which a threshold on the draw would only have on average.
    number = F.row_number().over(of_item.orderBy(draw, "user_id"))
    split = F.when(number > num_rest, "test").when(hash_uniform(draw) < valid_share, "valid").otherwise("train")
    split_of_pair = pairs.select("user_id", "item_id", "label", split.alias("split"))
    return examples.join(split_of_pair, on=["user_id", "item_id", "label"], how="inner")


def _leave_one_out(examples: DataFrame, _: FeatureSettings) -> DataFrame:
    """Each user's last positive tests, the one before validates; negatives go with the last positive not after them."""
    # At the same moment the positive comes before its sampled negatives.
    newest_first = Window.partitionBy("user_id").orderBy(F.desc("at"), F.desc("label"), F.desc("example_id"))
    num_positives = F.sum("label").over(newest_first.rowsBetween(Window.unboundedPreceding, Window.currentRow))
    split = F.when(F.col("num_positives") <= 1, "test").when(F.col("num_positives") == 2, "valid").otherwise("train")
    return examples.withColumn("num_positives", num_positives).withColumn("split", split).drop("num_positives")


def _k_fold(examples: DataFrame, settings: FeatureSettings) -> DataFrame:
    """Fold `features.fold` of `features.folds` tests, the next one validates; `features.seed` shuffles anew.

    Folds are drawn by a hash of user and item: a repeated pair is in one fold. Built once for each fold, every pair
    tests once (K-fold); with other seeds again, repeated K-fold.
    """
    if settings.fold >= settings.folds:
        raise UserError(f"features.fold is {settings.fold}: of {settings.folds} folds the last is {settings.folds - 1}")
    fold = F.pmod(F.xxhash64("user_id", "item_id", F.lit(settings.seed)), F.lit(settings.folds))
    split = (
        F.when(fold == settings.fold, "test")
        .when(fold == (settings.fold + 1) % settings.folds, "valid")
        .otherwise("train")
    )
    return examples.withColumn("split", split)


# A new method is added here; it returns the examples with their column `split`.
SPLIT_METHODS: dict[str, Callable[[DataFrame, FeatureSettings], DataFrame]] = {
    "time": _by_time,
    "random": _at_random,
    "leave-one-out": _leave_one_out,
    "k-fold": _k_fold,
}


def usual_shares(rows: int) -> tuple[float, float, float]:
    """Shares of training, validation and test rows that suit so many rows (requirement F7)."""
    if rows < 100_000:
        return 0.6, 0.2, 0.2
    return (0.98, 0.01, 0.01) if rows <= 1_000_000 else (0.995, 0.0025, 0.0025)


def _holdout_shares(examples: DataFrame, settings: FeatureSettings, test_share: float) -> tuple[float, float]:
    """Shares of validation and test rows."""
    if settings.shares == "by_size":
        return usual_shares(examples.count())[1:]
    return settings.valid_share, test_share


def _split_from(value: Column, first_valid: Column, first_test: Column) -> Column:
    is_test, is_valid = value >= first_test, value >= first_valid  # the second holds for test rows, too
    return F.when(is_test, "test").when(is_valid, "valid").otherwise("train")
