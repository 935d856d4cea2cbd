"""Features on Spark, against answers computed by hand or by another route."""

import math
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from data.impressions import write_days
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from conf import Config, Paths, UsageError, UserError
from conf.versions import current_version
from etl.tables import dwd, ods
from etl.warehouse.store import Warehouse
from features import catalog
from features.catalog import COLUMNS, DENSE, Dense, Sparse, index_of
from features.compute.request_rows import RequestFeatures
from features.compute.spark_rows import _unscaled, fit_statistics, scale_features, unscaled_features
from features.compute.training_statistics import TrainingStatistics
from features.counts.counts_before import ClickRates, fit_click_rates, with_counts_before
from features.counts.running_counts import RunningCounts
from features.dataset.build import run as build
from features.dataset.examples import from_interactions
from features.dataset.parquet import sorted_by_hash, sorted_by_time
from features.inspect import audit, selection
from features.inspect.leaks import find_leaks
from features.settings import FeatureSettings
from features.transforms.hashing import bucket_hasher, hash_bucket
from recsys.dataset import read_rows
from training.inputs.dataset import open_dataset
from training.tasks.click import Click

EXAMPLES = "user_id string, item_id string, day date, label int, category string, position int"
SHOWN = (
    "example_id string, user_id string, item_id string, at timestamp, day date, position int, device string, "
    "label int, features map<string, double>"
)
USERS = "user_id string, gender string, age_group string, city string"
ITEMS = "item_id string, category string, author string, published_at timestamp"
SETTINGS = FeatureSettings(prior_strength=20.0)


def test_counts_see_only_earlier_days(spark: SparkSession) -> None:
    days = [date(2026, 4, 1), date(2026, 4, 2), date(2026, 4, 3)]
    known = spark.createDataFrame(
        [
            ("u", "i", days[0], 1, "c", 1),
            ("u", "i", days[0], 0, "c", 2),
            ("u", "i", days[1], 1, "c", 1),
            ("v", "j", days[1], 0, "c", 2),
        ],
        EXAMPLES,
    )
    rows = spark.createDataFrame([("u", "i", day, 0, "c", 1) for day in days], EXAMPLES)
    found = {
        row["day"]: row for row in with_counts_before(rows, known, ClickRates(0.5, {1: 0.75, 2: 0.25}, 20.0)).collect()
    }
    assert [(found[d]["item_shown"], found[d]["item_clicks"]) for d in days] == [(None, None), (2, 1), (3, 2)]
    assert [found[d]["item_expected"] for d in days] == [None, 1.0, 1.75]
    assert [(found[d]["category_shown"], found[d]["category_clicks"]) for d in days] == [(None, None), (2, 1), (4, 2)]
    assert [found[d]["user_last_click"] for d in days] == [None, days[0], days[1]]
    assert [found[d]["user_tag1"] for d in days] == [None, "c", "c"]
    assert {row["prior_rate"] for row in found.values()} == {0.5}


def random_examples(rows: int, days: int = 6) -> list[tuple[Any, ...]]:
    """Impressions of few users and items, some of them unknown, some without a position, one with logged values."""
    rng = np.random.default_rng(11)
    found = []
    for n in range(rows):
        at = datetime(2026, 4, 1) + timedelta(seconds=int(rng.integers(days * 86_400)))
        user, item = f"u{rng.integers(60)}", f"i{rng.integers(40)}"
        position = None if rng.random() < 0.1 else int(rng.integers(1, 11))
        device = str(rng.choice(["phone", "tablet"])) if rng.random() < 0.9 else None
        logged = {"user_rate": 0.125, "category": 3.0} if n == 0 else None
        found.append((f"e{n}", user, item, at, at.date(), position, device, int(rng.random() < 0.3), logged))
    return found


def profiles() -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """Users u0–u54 and items i0–i36: u55–u59 and i37–i39 are shown, and not known."""
    users = [(f"u{i}", "FM"[i % 2] if i % 7 else None, f"{i % 5}", f"city {i % 4}") for i in range(55)]
    items = [
        (f"i{i}", f"topic {i % 6}" if i % 9 else None, f"a{i % 3}", datetime(2026, 3, 20 + i % 12) if i % 5 else None)
        for i in range(37)
    ]
    return users, items


def test_a_feature_row_online_equals_that_of_the_training_set(spark: SparkSession) -> None:
    """Thousands of random rows: ids are equal, numbers to a few units of float32."""
    examples, (users, items) = random_examples(4000), profiles()
    shown = spark.createDataFrame(examples, SHOWN).persist()
    rates = fit_click_rates(shown.where("day < '2026-04-05'"), SETTINGS.prior_strength)
    topics = {item[0]: item[1] for item in items}
    raw = unscaled_features(
        shown, spark.createDataFrame(users, USERS), spark.createDataFrame(items, ITEMS), shown, rates, SETTINGS
    ).persist()
    statistics = fit_statistics(raw.where("day < '2026-04-05'"), rates, SETTINGS)
    offline = {row["example_id"]: row.asDict() for row in scale_features(raw, statistics).collect()}

    counts = RunningCounts(rates)
    names = [part.split()[0] for part in SHOWN.split(", ", 8)]
    online = RequestFeatures(
        statistics,
        counts,
        {row[0]: dict(zip([part.split()[0] for part in USERS.split(", ")], row, strict=True)) for row in users},
        {row[0]: dict(zip([part.split()[0] for part in ITEMS.split(", ")], row, strict=True)) for row in items},
    )
    compared = 0
    for day in sorted({row[4] for row in examples}):
        today = [dict(zip(names, row, strict=True)) for row in examples if row[4] == day]
        for request in today:
            if request["features"]:
                continue  # keeps what was logged: its own test
            found = online.scaled(request)
            expected = offline[request["example_id"]]
            for feature in COLUMNS:
                value = expected[f"f_{feature.name}"]
                if isinstance(feature, Dense):
                    assert found[feature.name] == pytest.approx(value, rel=1e-5, abs=2e-5), feature.name
                else:
                    assert found[feature.name] == value, (feature.name, request)
            compared += 1
        for request in today:  # the day is over
            counts.add({**request, "category": topics.get(request["item_id"])})
    assert compared == 3999
    logged = offline["e0"]
    mean, deviation = statistics.mean["user_rate"], statistics.deviation["user_rate"]
    assert logged["f_category"] == 3
    assert logged["f_user_rate"] == pytest.approx((0.125 - mean) / deviation, rel=1e-5)
    shown.unpersist()
    raw.unpersist()


def test_hours_and_days_are_the_same_for_training_and_for_a_request_in_a_zone_with_summer_time(
    spark: SparkSession,
) -> None:
    """New York: clocks skip the hour from 2 on 2026-03-08 (07:00 UTC), and repeat that from 1 on 2026-11-01."""
    zone, published = "America/New_York", datetime(2026, 3, 8, 4, 30, tzinfo=UTC)  # 23:30 on the 7th
    expected = {  # (hour, days since `published`)
        "2026-03-08T04:59:59": (23, 0),
        "2026-03-08T05:00:00": (0, 1),
        "2026-03-08T06:59:59": (1, 1),
        "2026-03-08T07:00:00": (3, 1),
        "2026-03-09T03:59:59": (23, 1),
        "2026-03-09T04:00:00": (0, 2),
        "2026-11-01T03:59:59": (23, 238),
        "2026-11-01T05:30:00": (1, 239),
        "2026-11-01T06:30:00": (1, 239),
        "2026-11-02T04:59:59": (23, 239),
        "2026-11-02T05:00:00": (0, 240),
    }
    moments = {text: datetime.fromisoformat(text).replace(tzinfo=UTC) for text in expected}
    rows = [(text, "u0", "i0", at, at.date(), 1, "phone", 0, None) for text, at in moments.items()]
    items = spark.createDataFrame([("i0", "topic", "a", published)], ITEMS)
    shown, users = spark.createDataFrame(rows, SHOWN), spark.createDataFrame([("u0", "F", "1", "c")], USERS)
    rates = ClickRates(0.3)
    offline = unscaled_features(shown, users, items, shown.limit(0), rates, SETTINGS, zone)
    statistics, known_items = TrainingStatistics(timezone=zone), {"i0": {"published_at": published}}
    online = RequestFeatures(statistics, RunningCounts(rates), {}, known_items)
    index = [feature.name for feature in catalog.FEATURES].index("hour")
    for row in offline.withColumn("at", F.col("at").cast("double")).collect():
        at, (hour, days) = moments[row["example_id"]], expected[row["example_id"]]
        assert row["at"] == at.timestamp()  # the row's moment is no other
        request = online.unscaled({"user_id": "u0", "item_id": "i0", "at": at, "position": 1, "device": "phone"})
        assert request["hour"] == row["f_hour"] == hash_bucket(index, hour, 32), row["example_id"]
        assert request["item_age_days"] == row["f_item_age_days"] == np.float32(math.log1p(days)), row["example_id"]


def test_numbers_are_their_own_ids_on_spark_as_in_python(spark: SparkSession) -> None:
    feature = Sparse("shelf", "shelf", 101, "numbers of shelves", is_number=True)
    texts = [None, "0", "7", "99", "100", "007", "7\n", " 7", "-1", "1.0", "", "٣", "12345678", "123456789", "x"]
    rows = spark.createDataFrame([(text,) for text in texts], "shelf string").select("shelf", _unscaled(feature))
    hasher = bucket_hasher(index_of(feature), 101, is_number=True)
    assert [row[1] for row in rows.collect()] == [hasher(text) for text in texts]
    assert hasher("7") == 8


def _features_of(spark: SparkSession) -> Callable[[DataFrame], DataFrame]:
    users, items = profiles()
    known_users, known_items = spark.createDataFrame(users, USERS), spark.createDataFrame(items, ITEMS)
    return lambda rows: unscaled_features(rows, known_users, known_items, rows, ClickRates(0.3), SETTINGS)


@pytest.mark.wide  # an audit of a day is below
def test_planted_leaks_are_caught_and_no_feature_of_the_catalog_leaks(spark: SparkSession) -> None:
    """Planted: the label itself, a count that includes its own day, a rate over all days, a sign of tomorrow."""
    rows = spark.createDataFrame(random_examples(600), SHOWN).persist()
    honest = _features_of(spark)

    def leaky(given: DataFrame) -> DataFrame:
        same_day = given.groupBy("item_id", "day").agg(F.sum("label").alias("f_today"))
        overall = given.groupBy("item_id").agg(F.avg("label").alias("f_overall"))
        tomorrow = given.select("user_id", F.date_sub("day", 1).alias("day")).distinct().withColumn("f_back", F.lit(1))
        return (
            honest(given)
            .withColumn("f_label", F.col("label") * 2)
            .join(same_day, on=["item_id", "day"], how="left")
            .join(overall, on="item_id", how="left")
            .join(tomorrow, on=["user_id", "day"], how="left")
        )

    assert find_leaks(rows, leaky, date(2026, 4, 4)) == ["f_label", "f_today", "f_overall", "f_back"]
    rows.unpersist()


def test_drawn_negatives_are_items_the_user_did_not_choose(spark: SparkSession) -> None:
    rows = [
        (f"e{u}{i}", f"u{u}", f"i{i}", "rating", float(rating), None, datetime(2026, 4, 1), "2026-04-01")
        for u in range(20)
        for i, rating in ((u % 5, 5), (5, 2))
    ]
    interactions = spark.createDataFrame(
        rows,
        "event_id string, user_id string, item_id string, action string, value double, impression_id string, "
        "acted_at timestamp, dt string",
    )
    found = from_interactions(interactions, FeatureSettings(negatives=3)).collect()
    positives = {(row["user_id"], row["item_id"]) for row in found if row["label"] == 1}
    negatives = {(row["user_id"], row["item_id"]) for row in found if row["label"] == 0}
    assert positives == {(f"u{u}", f"i{u % 5}") for u in range(20)}  # a rating of 2 is no positive
    assert negatives
    assert not positives & negatives
    again = from_interactions(interactions, FeatureSettings(negatives=3)).collect()
    assert sorted(map(str, again)) == sorted(map(str, found))


@pytest.fixture(scope="module")
def training_set(spark: SparkSession, config: Config) -> tuple[date, dict[str, int]]:
    """Day and row counts of a training set of five days."""
    days = [date(2026, 5, day) for day in range(1, 6)]
    write_days(spark, Warehouse(spark, config), days)
    return days[-1], build(spark, config, days[-1])


def test_a_training_set_is_published_with_statistics_of_its_training_rows_only(
    config: Config, training_set: tuple[date, dict[str, int]]
) -> None:
    """F4, F13: standardised on training rows; Petastorm's metadata beside them; NaN that was logged counts as missing."""
    day, row_counts = training_set
    assert (row_counts["train"], row_counts["valid"], row_counts["test"]) == (180, 60, 60)
    published = sorted(config.get(Paths).datasets("examples", day).glob("v-*"))[0]
    train = pq.read_table(published / "train").to_pandas()
    assert np.isfinite(train[[f"f_{feature.name}" for feature in DENSE]].to_numpy()).all()
    for name in ("f_item_shown", "f_user_rate"):
        assert abs(train[name].mean()) < 1e-3
        assert train[name].std(ddof=0) == pytest.approx(1, abs=1e-3)
    assert (published / "train/_common_metadata").exists()
    assert Path(config.get(Paths).datasets("examples", day) / "current.json").exists()


def test_an_impression_with_a_logged_id_out_of_range_is_quarantined_by_name(
    spark: SparkSession, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    """One such row ended the day's training with an IndexError, or read the embedding of another field."""
    warehouse = Warehouse(spark, config)
    days = [date(2026, 8, day) for day in range(1, 6)]
    write_days(spark, warehouse, days)
    poisoned = {1: ("category", 1e9), 2: ("user_id", -3.0), 3: ("gender", 8.0), 4: ("hour", 1.5), 5: ("city", math.nan)}
    logged = F.create_map(*[F.lit(part) for pair in [("category", 255.0), ("gender", 0.0)] for part in pair])
    for number, (name, value) in poisoned.items():
        own = F.create_map(F.lit(name), F.lit(value))
        logged = F.when(F.col("impression_id") == f"{days[1]}-{number}", own).otherwise(logged)
    rows = warehouse.read(dwd.impression, days[1:2]).withColumn("features", logged)
    warehouse.write(dwd.impression, rows, days[1:2])
    counts = build(spark, config, days[-1])
    assert (counts["rows_in"], counts["rows_out"], counts["rows_quarantined"]) == (300, 295, 5)
    assert counts["train"] == 175
    refused = warehouse.read(ods.quarantine, days[-1:]).where("stage = 'features'").orderBy("line").collect()
    assert {(row["reason"], row["file"]) for row in refused} == {("bad_feature", f"dwd_impression/dt={days[1]}")}
    assert [row["line"].split("logged ")[1] for row in refused] == [
        "category 1.0E9", "user_id -3.0", "gender 8.0", "hour 1.5", "city NaN"
    ]  # fmt: skip
    assert "5 impressions quarantined for a logged id that its feature does not have: category 1.0E9 of" in caplog.text
    train = read_rows(current_version(config.get(Paths).datasets("examples", days[-1]), command="")[0] / "train")
    assert train.sparse.max() < 65536


@pytest.mark.wide
def test_a_mended_log_takes_its_rows_out_of_the_quarantine(spark: SparkSession, config: Config) -> None:
    warehouse = Warehouse(spark, config)
    days = [date(2027, 1, day) for day in range(11, 16)]
    write_days(spark, warehouse, days)
    poisoned = F.create_map(F.lit("user_id"), F.lit(-3.0))
    rows = warehouse.read(dwd.impression, days[1:2]).withColumn("features", poisoned)
    warehouse.write(dwd.impression, rows, days[1:2])
    for quarantined in (60, 0):
        assert build(spark, config, days[-1])["rows_quarantined"] == quarantined
        assert warehouse.read(ods.quarantine, days[-1:]).where("stage = 'features'").count() == quarantined
        write_days(spark, warehouse, days)


def test_sampling_whitening_and_an_estimated_prior_are_settings_of_the_build(
    spark: SparkSession, config: Config
) -> None:
    """F2, F8, F9: weights undo the sampling, and every reader of the training set finds them."""
    days = [date(2026, 6, day) for day in range(1, 6)]
    write_days(spark, Warehouse(spark, config), days)
    values = {"balance": "under_sample", "negative_rate": 0.5, "whiten": "zca", "prior_strength": "moments"}
    config = config.with_values({f"features.{name}": value for name, value in values.items()})
    row_counts = build(spark, config, days[-1])
    folder, metadata = current_version(config.get(Paths).datasets("examples", days[-1]), command="")
    train, test = (pq.read_table(folder / split).to_pandas() for split in ("train", "test"))
    assert len(train) == row_counts["train"] == metadata["rows"]["train"] < 180
    assert set(train[train["label"] == 0]["weight"]) == {2.0}
    assert set(train[train["label"] == 1]["weight"]) == set(test["weight"]) == {1.0}
    assert train["weight"].sum() == pytest.approx(180, rel=0.15)
    assert len(test) == 60
    assert metadata["statistics"]["prior_strength"] != 20
    dense = test[[f"f_{feature.name}" for feature in DENSE]].to_numpy()
    assert np.isfinite(dense).all()
    assert len(metadata["statistics"]["whitening"]["mean"]) == len(DENSE)
    assert (
        read_rows(folder / "train").keys["weight"].tolist()
        == train.sort_values("at_s", kind="stable")["weight"].tolist()
    )
    assert open_dataset(config, Click(), days[-1]).columns.weight == "weight"


@pytest.mark.parametrize("by_time", [True, False])
def test_rows_of_one_moment_are_written_in_no_order_of_users(spark: SparkSession, by_time: bool) -> None:
    """Batches of data without times would be of few users; whatever the partitions, the order is the same."""
    rows = [(f"e{user}-{item}", f"u{user}", f"i{item}", float(item // 15)) for user in range(20) for item in range(30)]
    frame = spark.createDataFrame(rows, "example_id string, user_id string, item_id string, at_s double")
    frame = frame.withColumn("split", F.lit("valid"))
    order = sorted_by_time if by_time else sorted_by_hash
    written = order(frame.repartition(3), 2).collect()
    assert written == order(frame.repartition(1), 2).collect()
    assert sorted(row["example_id"] for row in written) == sorted(row[0] for row in rows)
    assert len({row["user_id"] for row in written[:40]}) > 10
    times = [row["at_s"] for row in written]
    assert (times == sorted(times)) == by_time


AUDITED = [date(2026, 12, day) for day in range(1, 4)]


@pytest.mark.wide
def test_an_audit_passes_the_catalog(spark: SparkSession, config: Config) -> None:
    # Two of the hours from 0 on of a day in Berlin are on the day before by UTC.
    write_days(spark, Warehouse(spark, config), AUDITED, zone="Europe/Berlin")
    config = config.with_values({"site.timezone": "Europe/Berlin"})
    assert audit.run(spark, config, AUDITED[-1]) == {"rows": 180, "requests": 60}


def test_an_audit_names_the_features_that_know_the_future_and_no_other(
    spark: SparkSession, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_days(spark, Warehouse(spark, config), AUDITED)
    leaks = (Dense("clicked", "label", "the label itself"), Dense("drawn", "rand()", "another one each time"))
    monkeypatch.setattr(catalog, "FEATURES", (*catalog.FEATURES, *leaks))
    monkeypatch.setattr(catalog, "COLUMNS", (*COLUMNS, *leaks))
    with pytest.raises(UserError, match=r"know the future: f_clicked, f_drawn$"):
        audit.run(spark, config, AUDITED[-1])


def test_features_are_selected_from_a_training_set_by_each_method(
    config: Config, training_set: tuple[date, dict[str, int]]
) -> None:
    day, _ = training_set
    for method in selection.METHODS:
        choice = selection.run(config, day, method, 3)
        assert choice["method"] == method
        assert 0 < len(choice["selected"]) <= 3
        assert sorted([*choice["selected"], *choice["dropped"]]) == sorted(feature.name for feature in DENSE)
    with pytest.raises(UsageError, match="choose from filter, wrapper, embedded"):
        selection.run(config, day, "magic", 3)
