"""Features and recall on Spark, against answers computed by hand or by another route."""

from datetime import date, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession
from sklearn.metrics import log_loss, roc_auc_score

from conf import Config, Paths
from etl.tables import dim, dwd
from etl.warehouse import Warehouse
from features import splits
from features.build import run as build
from features.counts import with_counts
from features.examples import from_interactions
from features.oracle import measure
from features.settings import FeatureSettings
from recsys.recall import CHANNELS, item_cf
from recsys.recall.merge import merge
from recsys.settings import RecallSettings

EXAMPLES = "user_id string, item_id string, day date, label int, category string"


def test_counts_see_only_earlier_days(spark: SparkSession) -> None:
    days = [date(2026, 4, 1), date(2026, 4, 2), date(2026, 4, 3)]
    known = spark.createDataFrame(
        [
            ("u", "i", days[0], 1, "c"),
            ("u", "i", days[0], 0, "c"),
            ("u", "i", days[1], 1, "c"),
            ("v", "j", days[1], 0, "c"),
        ],
        EXAMPLES,
    )
    rows = spark.createDataFrame([("u", "i", day, 0, "c") for day in days], EXAMPLES)
    found = {row["day"]: row for row in with_counts(rows, known, 20.0).collect()}
    assert [(found[d]["item_shown"], found[d]["item_clicks"]) for d in days] == [(None, None), (2, 1), (3, 2)]
    assert [(found[d]["category_shown"], found[d]["category_clicks"]) for d in days] == [(None, None), (2, 1), (4, 2)]
    assert [found[d]["user_last_click"] for d in days] == [None, days[0], days[1]]
    assert {row["prior_rate"] for row in found.values()} == {0.5}


def test_by_day_and_by_time_every_test_row_is_later_than_every_training_row(spark: SparkSession) -> None:
    rows = [
        (f"u{i % 7}", f"i{i}", datetime(2026, 4, 1 + i // 20, i % 24), date(2026, 4, 1 + i // 20), 1)
        for i in range(100)
    ]
    examples = spark.createDataFrame(rows, "user_id string, item_id string, at timestamp, day date, label int")
    settings = FeatureSettings()
    for split in (splits.by_day(examples, settings, date(2026, 4, 5)), splits.by_name(examples, settings, "time")):
        found: dict[str, list[datetime]] = {"train": [], "valid": [], "test": []}
        for row in split.collect():
            found[row["split"]].append(row["at"])
        assert all(found.values())
        assert max(found["train"]) < min(found["valid"]) <= max(found["valid"]) < min(found["test"])


def test_leave_one_out_tests_each_users_last_positive(spark: SparkSession) -> None:
    rows = [("u", f"i{n}", datetime(2026, 4, n), date(2026, 4, n), 1, f"e{n}") for n in range(1, 5)]
    rows.append(("u", "neg", datetime(2026, 4, 4), date(2026, 4, 4), 0, "e4-n-1"))
    examples = spark.createDataFrame(
        rows, "user_id string, item_id string, at timestamp, day date, label int, example_id string"
    )
    found = {
        row["item_id"]: row["split"] for row in splits.by_name(examples, FeatureSettings(), "leave-one-out").collect()
    }
    assert found == {"i1": "train", "i2": "train", "i3": "valid", "i4": "test", "neg": "test"}


def test_drawn_negatives_are_items_the_user_did_not_choose(spark: SparkSession) -> None:
    rows = [
        (f"e{u}{i}", f"u{u}", f"i{i}", "rating", float(rating), None, datetime(2026, 4, 1))
        for u in range(20)
        for i, rating in ((u % 5, 5), (5, 2))
    ]
    interactions = spark.createDataFrame(
        rows,
        "event_id string, user_id string, item_id string, action string, value double, impression_id string, acted_at timestamp",
    )
    found = from_interactions(interactions, FeatureSettings(negatives=3)).collect()
    positives = {(row["user_id"], row["item_id"]) for row in found if row["label"] == 1}
    negatives = {(row["user_id"], row["item_id"]) for row in found if row["label"] == 0}
    assert positives == {(f"u{u}", f"i{u % 5}") for u in range(20)}  # a rating of 2 is no positive
    assert negatives
    assert not positives & negatives
    again = from_interactions(interactions, FeatureSettings(negatives=3)).collect()
    assert sorted(map(str, again)) == sorted(map(str, found))


def history(spark: SparkSession, pairs: list[tuple[str, str]]) -> DataFrame:
    rows = [(user, item, datetime(2026, 4, 1, i % 24, i // 24)) for i, (user, item) in enumerate(pairs)]
    return spark.createDataFrame(rows, "user_id string, item_id string, at timestamp")


def checkerboard(spark: SparkSession) -> DataFrame:
    """Even users chose even items, odd users odd ones; each lacks one of theirs."""
    pairs = [(f"u{u}", f"i{i}") for u in range(10) for i in range(10) if u % 2 == i % 2 and i != u]
    return history(spark, pairs)


@pytest.mark.parametrize("name", CHANNELS)
def test_what_every_channel_promises(spark: SparkSession, name: str) -> None:
    """R2: up to k unseen items a user, no doubles, cold users never break it, the same again."""
    seen = checkerboard(spark)
    users = spark.createDataFrame([("u0",), ("u1",), ("cold",)], "user_id string")
    found = CHANNELS[name](seen, users, RecallSettings(), 3).collect()
    pairs = [(row["user_id"], row["item_id"]) for row in found]
    assert len(pairs) == len(set(pairs))
    assert not set(pairs) & {(row["user_id"], row["item_id"]) for row in seen.collect()}
    assert {user for user, _ in pairs} <= {"u0", "u1", "cold"}
    assert max(sum(user == u for user, _ in pairs) for u in ("u0", "u1")) <= 3
    again = CHANNELS[name](seen, users, RecallSettings(), 3).collect()
    assert sorted(map(str, found)) == sorted(map(str, again))


def test_item_cf_finds_the_missing_square_of_a_checkerboard(spark: SparkSession) -> None:
    seen = checkerboard(spark)
    found = item_cf.recall(seen, seen.select("user_id").distinct(), RecallSettings(), 1).collect()
    assert {(row["user_id"], row["item_id"]) for row in found} == {(f"u{u}", f"i{u}") for u in range(10)}


def test_item_cf_agrees_with_matrices(spark: SparkSession) -> None:
    rng = np.random.default_rng(1)
    matrix = rng.random((30, 12)) < 0.3
    pairs = [(f"u{u}", f"i{i}") for u, i in zip(*np.nonzero(matrix), strict=True)]
    settings = RecallSettings(neighbours=100, shrink=2.0)
    chosen = history(spark, pairs)
    weight = 1 / np.log1p(np.maximum(matrix.sum(1), 1))
    together = (matrix * weight[:, None]).T.astype(float) @ matrix
    norm = np.sqrt(np.outer(matrix.sum(0), matrix.sum(0))) + settings.shrink
    expected = together / norm
    for row in item_cf.similarity(chosen, settings).collect():
        assert row["similarity"] == pytest.approx(expected[int(row["item_id"][1:]), int(row["other_id"][1:])])


def test_merging_keeps_quotas_and_says_which_channels_proposed(spark: SparkSession) -> None:
    schema = "user_id string, item_id string, score double"
    cf = spark.createDataFrame([("u", "a", 9.0), ("u", "b", 8.0), ("u", "c", 7.0)], schema)
    hot = spark.createDataFrame([("u", "b", 0.9), ("u", "d", 0.8), ("u", "e", 0.7)], schema)
    found = {row["item_id"]: row for row in merge({"item_cf": cf, "hot": hot}, {"item_cf": 2, "hot": 2}).collect()}
    assert set(found) == {"a", "b", "d"}
    assert found["b"]["channels"] == "hot+item_cf"
    assert found["b"]["rank"] == 1
    assert found["b"]["score"] == pytest.approx(1 / 61 + 1 / 62)


def test_the_oracles_auc_and_log_loss_agree_with_another_implementation(spark: SparkSession) -> None:
    rng = np.random.default_rng(2)
    scores = np.round(rng.random(500), 2).clip(0.01, 0.99)  # with ties
    labels = (rng.random(500) < scores).astype(int)
    frame = spark.createDataFrame(list(zip(labels.tolist(), scores.tolist(), strict=True)), "label int, score double")
    found = measure(frame)
    assert found["auc"] == pytest.approx(roc_auc_score(labels, scores))
    assert found["log_loss"] == pytest.approx(log_loss(labels, scores))


def test_a_training_set_is_published_with_statistics_of_its_training_rows_only(
    spark: SparkSession, config: Config
) -> None:
    """F4, F13: standardised on training rows; Petastorm's metadata beside them."""
    warehouse = Warehouse(spark, config.get(Paths))
    days = [date(2026, 5, day) for day in range(1, 6)]
    rng = np.random.default_rng(3)
    rows = []
    for day in days:
        for n in range(60):
            user, item = f"u{rng.integers(10)}", f"i{rng.integers(8)}"
            at = datetime(day.year, day.month, day.day, n % 24)
            rows.append((f"{day}-{n}", "r", user, item, 1 + n % 10, "phone", at, int(rng.random() < 0.3), str(day)))
    names = [*dwd.impression.column_names, "dt"]
    warehouse.write(dwd.impression, spark.createDataFrame(rows, names), days)
    users = [(f"u{i}", "F", "18-24", "Wuhan", datetime(2025, 1, 1), str(days[-1])) for i in range(10)]
    warehouse.write(dim.user, spark.createDataFrame(users, [*dim.user.column_names, "dt"]), days[-1:])
    items = [(f"i{i}", "t", "food", "a", datetime(2025, 1, 1), str(days[-1])) for i in range(8)]
    warehouse.write(dim.item, spark.createDataFrame(items, [*dim.item.column_names, "dt"]), days[-1:])
    told = build(spark, config, days[-1])
    assert (told["train"], told["valid"], told["test"]) == (180, 60, 60)
    published = sorted(config.get(Paths).datasets("examples", days[-1]).glob("v-*"))[-1]
    train = pq.read_table(published / "train").to_pandas()
    for name in ("f_item_shown", "f_user_rate"):
        assert abs(train[name].mean()) < 1e-3
        assert train[name].std(ddof=0) == pytest.approx(1, abs=1e-3)
    assert (published / "train/_common_metadata").exists()
    assert Path(config.get(Paths).datasets("examples", days[-1]) / "current.json").exists()
