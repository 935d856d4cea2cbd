"""Which example trains, which chooses, which tests: a `split` column with train, valid or test.

By day, by time, at random, or leave-one-out. In the first two every test row is later than every training row. At
random means stratified by item: each item has the same share of its pairs in the test rows, as public benchmarks have
it.
"""

from datetime import date, timedelta

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from conf.cli import one_of
from features.dataset.draws import uniform
from features.settings import FeatureSettings

SPLITS = ("time", "random", "leave-one-out")


def by_day(examples: DataFrame, settings: FeatureSettings, day: date) -> DataFrame:
    """Test: the last days up to `day`; valid: the days before those; train: all before."""
    first_test = day - timedelta(days=settings.test_days - 1)
    first_valid = first_test - timedelta(days=settings.valid_days)
    return examples.withColumn("split", _by_bounds(F.col("day"), F.lit(first_valid), F.lit(first_test)))


def follows_time(name: str) -> bool:
    """Whether all test rows of a split are later than all training rows."""
    return name in ("day", "time")


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
    """Of each item's pairs `random_test_share` test, of the others `valid_share` choose, drawn by a hash of the pair.

    A doubled pair never stands on both sides. Shares of an item are rounded to whole pairs, of negatives and positives
    each.
    """
    pairs = examples.select("user_id", "item_id", "label").distinct()
    draw = F.xxhash64("user_id", "item_id", F.lit(settings.seed))
    item = Window.partitionBy("item_id", "label")
    first = item.orderBy(draw, "user_id")
    num_pairs = F.count("*").over(item)
    num_rest = F.round(num_pairs * (1 - settings.random_test_share))
    nth = F.row_number().over(first)
    is_valid = uniform(draw) < settings.valid_share
    split = F.when(nth > num_rest, "test").when(is_valid, "valid").otherwise("train")
    sides = pairs.select("user_id", "item_id", "label", split.alias("split"))
    return examples.join(sides, on=["user_id", "item_id", "label"], how="inner")


def _leave_one_out(examples: DataFrame) -> DataFrame:
    """Each user's last positive tests, the one before chooses; negatives go with the last positive not after them."""
    order = Window.partitionBy("user_id").orderBy(F.desc("at"), F.desc("label"), F.desc("example_id"))
    so_far = F.sum("label").over(order.rowsBetween(Window.unboundedPreceding, Window.currentRow))
    split = F.when(F.col("nth") <= 1, "test").when(F.col("nth") == 2, "valid").otherwise("train")
    return examples.withColumn("nth", so_far).withColumn("split", split).drop("nth")


def _by_bounds(value: Column, first_valid: Column, first_test: Column) -> Column:
    return F.when(value >= first_test, "test").when(value >= first_valid, "valid").otherwise("train")


def k_fold(examples: DataFrame, k: int, seed: int, repeat: int = 0) -> DataFrame:
    """Add `fold`, 0 to k − 1, by a hash of user and item: a doubled pair is in one fold; each `repeat` shuffles."""
    if k < 2:
        raise ValueError(f"folds must be 2 or more, not {k}")
    fold = F.pmod(F.xxhash64("user_id", "item_id", F.lit(seed), F.lit(repeat)), F.lit(k))
    return examples.withColumn("fold", fold.cast("int"))


def usual_shares(rows: int) -> tuple[float, float, float]:
    """Shares of training, validation and test rows that suit so many rows (requirement F7)."""
    if rows < 100_000:
        return 0.6, 0.2, 0.2
    return (0.98, 0.01, 0.01) if rows <= 1_000_000 else (0.995, 0.0025, 0.0025)
