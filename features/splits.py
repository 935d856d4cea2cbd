"""Which example trains, which chooses, which tests: a `split` column with train, valid or test.

By day, by time, at random, or leave-one-out. In the first two every test row is later than every training row.
"""

from datetime import date, timedelta

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from conf.cli import one_of
from features.settings import FeatureSettings

SPLITS = ("time", "random", "leave-one-out")


def by_day(examples: DataFrame, settings: FeatureSettings, day: date) -> DataFrame:
    """Test: the last days up to `day`; valid: the days before those; train: all before."""
    first_test = day - timedelta(days=settings.test_days - 1)
    first_valid = first_test - timedelta(days=settings.valid_days)
    return examples.withColumn("split", _by_bounds(F.col("day"), F.lit(first_valid), F.lit(first_test)))


def by_name(examples: DataFrame, settings: FeatureSettings, name: str) -> DataFrame:
    """One of SPLITS, with shares from the settings. Raises UsageError for another name."""
    one_of("split", name, SPLITS)
    if name == "time":
        return _by_time(examples, settings)
    if name == "random":
        return _at_random(examples, settings)
    return _leave_one_out(examples)


def _by_time(examples: DataFrame, settings: FeatureSettings) -> DataFrame:
    shares = [1 - settings.test_share - settings.valid_share, 1 - settings.test_share]
    seconds = examples.where("label = 1").select(F.col("at").cast("double").alias("at"))
    first_valid, first_test = seconds.approxQuantile("at", shares, 0.0)
    return examples.withColumn("split", _by_bounds(F.col("at").cast("double"), F.lit(first_valid), F.lit(first_test)))


def _at_random(examples: DataFrame, settings: FeatureSettings) -> DataFrame:
    """By a hash of user and item, so that a doubled pair never stands on both sides."""
    draw = F.pmod(F.xxhash64("user_id", "item_id", F.lit(settings.seed)), F.lit(1_000_000)) / 1_000_000
    return examples.withColumn(
        "split", _by_bounds(draw, F.lit(1 - settings.test_share - settings.valid_share), F.lit(1 - settings.test_share))
    )


def _leave_one_out(examples: DataFrame) -> DataFrame:
    """Each user's last positive tests, the one before chooses; negatives go with the last positive not after them."""
    order = Window.partitionBy("user_id").orderBy(F.desc("at"), F.desc("label"), F.desc("example_id"))
    so_far = F.sum("label").over(order.rowsBetween(Window.unboundedPreceding, Window.currentRow))
    split = F.when(F.col("nth") <= 1, "test").when(F.col("nth") == 2, "valid").otherwise("train")
    return examples.withColumn("nth", so_far).withColumn("split", split).drop("nth")


def _by_bounds(value: Column, first_valid: Column, first_test: Column) -> Column:
    return F.when(value >= first_test, "test").when(value >= first_valid, "valid").otherwise("train")
