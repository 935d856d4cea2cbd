"""Splits on Spark: which rows train, validate and test, by each of the methods."""

from datetime import date, datetime, timedelta

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from conf import UsageError, UserError
from features.dataset import splits
from features.settings import FeatureSettings

PAIRS = "user_id string, item_id string, label int"
TIMED = "user_id string, item_id string, at timestamp, label int, example_id string"


def split_of(frame: DataFrame) -> dict[str, str]:
    """Split of each row, by its item."""
    rows = {row["item_id"]: row["split"] for row in frame.collect()}
    assert frame.columns[-1] == "split"
    return rows


def test_by_day_the_last_days_test_and_those_before_validate(spark: SparkSession) -> None:
    """Every test row is later than every training row."""
    days = [date(2026, 4, n) for n in range(1, 9)]
    examples = spark.createDataFrame([(f"i{day.day}", day) for day in days], "item_id string, day date").coalesce(1)
    settings = FeatureSettings(test_days=2, valid_days=3)
    expected = ["train"] * 3 + ["valid"] * 3 + ["test"] * 2
    assert split_of(splits.split_by_day(examples, settings, days[-1])) == {
        f"i{day.day}": split for day, split in zip(days, expected, strict=True)
    }


def test_by_time_each_split_has_its_share_of_the_positives(spark: SparkSession) -> None:
    """Bounds are times of positives, whatever negatives there are; every test row is later than every training row."""
    at = [datetime(2026, 4, 1) + timedelta(minutes=7 * n) for n in range(100)]
    rows = [("u", f"i{n}", moment, 1, "") for n, moment in enumerate(at)]
    rows += [("u", f"n{n}", at[40], 0, "") for n in range(300)]
    examples = spark.createDataFrame(rows, TIMED).coalesce(1)
    split = split_of(splits.split_by_method(examples, FeatureSettings(valid_share=0.2, test_share=0.1), "time"))
    positives = [split[f"i{n}"] for n in range(100)]
    assert positives == sorted(positives, key=["train", "valid", "test"].index)
    assert [positives.count(name) for name in ("train", "valid", "test")] == pytest.approx([70, 20, 10], abs=1)
    assert {split[f"n{n}"] for n in range(300)} == {"train"}


def test_shares_by_size_replace_the_settings(spark: SparkSession) -> None:
    rows = [(f"u{n}", "i", datetime(2026, 4, 1) + timedelta(minutes=n), 1, "") for n in range(1000)]
    examples = spark.createDataFrame(rows, TIMED).coalesce(1)
    settings = FeatureSettings(shares="by_size", valid_share=0.05, test_share=0.3, random_test_share=0.4)
    by_time, at_random = (
        splits.split_by_method(examples, settings, method).toPandas()["split"].value_counts().to_dict()
        for method in ("time", "random")
    )
    assert by_time == pytest.approx({"train": 600, "valid": 200, "test": 200}, abs=2)
    # At random, rows validate by chance, out of those that do not test.
    assert at_random == pytest.approx({"train": 640, "valid": 160, "test": 200}, abs=40)
    assert at_random["test"] == 200


def test_the_more_rows_the_smaller_the_parts_that_are_held_out() -> None:
    assert splits.usual_shares(99_999) == (0.6, 0.2, 0.2)
    assert splits.usual_shares(100_000) == splits.usual_shares(1_000_000) == (0.98, 0.01, 0.01)
    assert splits.usual_shares(1_000_001) == (0.995, 0.0025, 0.0025)


def test_at_random_each_item_has_its_share_and_no_pair_is_on_both_sides(spark: SparkSession) -> None:
    rng = np.random.default_rng(4)
    pairs = [(f"u{rng.integers(300)}", f"i{rng.integers(12)}", int(rng.random() < 0.6)) for _ in range(3000)]
    examples = spark.createDataFrame(pairs, PAIRS).coalesce(1)
    settings = FeatureSettings(random_test_share=0.4, valid_share=0.2)
    split = splits.split_by_method(examples, settings, "random").toPandas()
    keys = ["user_id", "item_id", "label"]
    assert len(split) == 3000
    assert (split.groupby(keys)["split"].nunique() == 1).all()
    once = split.drop_duplicates(keys)
    for _, of_item in once.groupby(["item_id", "label"]):  # positives and negatives of an item each have the share
        assert (of_item["split"] == "test").sum() == pytest.approx(len(of_item) * 0.4, abs=0.5)
    rest = once[once["split"] != "test"]
    assert (rest["split"] == "valid").mean() == pytest.approx(0.2, abs=0.04)
    # Neither all of a user's pairs nor all of an item's go the same way; another seed draws anew.
    assert (rest.groupby("user_id")["split"].nunique() == 2).mean() > 0.3
    assert (rest.groupby("item_id")["split"].nunique() == 2).all()
    by_pair = once.set_index(keys)["split"]
    again = splits.split_by_method(examples.repartition(3), settings, "random").toPandas()
    assert by_pair.to_dict() == again.drop_duplicates(keys).set_index(keys)["split"].to_dict()
    anew = splits.split_by_method(examples, settings.model_copy(update={"seed": 8}), "random").toPandas()
    assert (by_pair == anew.drop_duplicates(keys).set_index(keys)["split"].loc[by_pair.index]).mean() < 0.6


def test_leave_one_out_tests_each_users_last_positive(spark: SparkSession) -> None:
    rows = [("u", f"i{n}", datetime(2026, 4, n), 1, f"e{n}") for n in range(1, 6)]
    rows += [
        ("u", "with the last", datetime(2026, 4, 5), 0, "e5-n"),
        ("u", "with the one before", datetime(2026, 4, 4), 0, "e4-n"),
        ("u", "after all", datetime(2026, 4, 9), 0, "e9"),
        # Of two at the same moment, the one of the larger id is the last; a user with one choice only tests.
        ("v", "first", datetime(2026, 4, 5), 1, "a"),
        ("v", "second", datetime(2026, 4, 5), 1, "b"),
        ("w", "only", datetime(2026, 4, 1), 1, "c"),
    ]
    split = split_of(splits.split_by_method(spark.createDataFrame(rows, TIMED), FeatureSettings(), "leave-one-out"))
    assert split == {
        "i1": "train",
        "i2": "train",
        "i3": "train",
        "i4": "valid",
        "i5": "test",
        "with the last": "test",
        "with the one before": "valid",
        "after all": "test",
        "first": "valid",
        "second": "test",
        "only": "test",
    }


def test_in_k_fold_every_pair_tests_once_and_another_seed_shuffles_anew(spark: SparkSession) -> None:
    pairs = [(f"u{i % 50}", f"i{i // 50}") for i in range(1000)]
    examples = spark.createDataFrame([*pairs, pairs[0]], "user_id string, item_id string").coalesce(1)

    def folds_of(fold: int, seed: int = 1) -> dict[str, list[tuple[str, str]]]:
        settings = FeatureSettings(folds=5, fold=fold, seed=seed)
        rows = splits.split_by_method(examples, settings, "k-fold").collect()
        return {
            name: sorted((row["user_id"], row["item_id"]) for row in rows if row["split"] == name)
            for name in ("train", "valid", "test")
        }

    folds = [folds_of(fold) for fold in range(5)]
    tested = [fold["test"] for fold in folds]
    assert sorted(pair for pairs_of_fold in tested for pair in pairs_of_fold) == sorted([*pairs, pairs[0]])
    assert min(map(len, tested)) > 150
    for number, fold in enumerate(folds):
        assert fold["valid"] == tested[(number + 1) % 5]  # the next fold, and after the last one the first
        assert len(fold["train"]) == 1001 - len(fold["valid"]) - len(fold["test"])
    assert len(set(tested[0]) & set(folds_of(0, seed=2)["test"])) < 0.5 * len(tested[0])
    # Pairs are drawn, not users or items.
    assert len({user for user, _ in tested[0]}) == 50
    assert len({item for _, item in tested[0]}) == 20


def test_a_fold_or_a_method_that_is_not_there_is_refused(spark: SparkSession) -> None:
    examples = spark.createDataFrame([("u", "i")], "user_id string, item_id string")
    with pytest.raises(UserError, match=r"features\.fold is 5: of 5 folds the last is 4"):
        splits.split_by_method(examples, FeatureSettings(fold=5), "k-fold")
    with pytest.raises(UsageError, match="unknown split 'odd'; choose from time, random, leave-one-out, k-fold"):
        splits.split_by_method(examples, FeatureSettings(), "odd")
