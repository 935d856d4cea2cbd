"""What transforms learn on Spark, against numpy and scikit-learn; and interests, imbalance and new definitions."""

from datetime import datetime

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

import features.transforms.offline
import features.transforms.online
from features.catalog import COLUMNS, SPARSE, Dense, Sparse
from features.counts.known import Rates
from features.dataset.imbalance import class_weights, over_sample, under_sample
from features.profile import interests
from features.settings import FeatureSettings
from features.transforms import (
    Arctan,
    LastItems,
    MinMax,
    Missing,
    MultiValued,
    OneHot,
    Quantile,
    SmoothedRate,
    Standardise,
    Transform,
    Vocabulary,
    Whiten,
    on_spark,
)
from features.transforms.offline import Statistics, fit, raw_features, standardise
from features.transforms.online import Known, OnlineFeatures

NUMBERS = np.random.default_rng(0).lognormal(size=1000)


@pytest.fixture(scope="module")
def numbers(spark: SparkSession) -> DataFrame:
    """1000 skewed numbers, a null and a NaN."""
    rows = [(float(x),) for x in NUMBERS] + [(None,), (float("nan"),)]
    return spark.createDataFrame(rows, "x double")


def test_fits_see_numbers_and_skip_what_is_missing(numbers: DataFrame) -> None:
    low_high = MinMax.fit(numbers, "x")
    assert (low_high.low, low_high.high) == (NUMBERS.min(), NUMBERS.max())
    standard = Standardise.fit(numbers, "x")
    assert (standard.mean, standard.deviation) == pytest.approx((NUMBERS.mean(), NUMBERS.std()))
    assert Arctan.fit(numbers, "x").scale == pytest.approx(np.median(NUMBERS), rel=0.01)
    quantile = Quantile.fit(numbers, "x", bins=20)
    shares = quantile.transform(NUMBERS)
    np.testing.assert_allclose(shares, (np.argsort(np.argsort(NUMBERS)) + 0.5) / 1000, atol=0.06)
    assert [Missing.fit(numbers, "x", policy).value for policy in ("zero", "mean", "median")] == pytest.approx(  # type: ignore[arg-type]
        [0, NUMBERS.mean(), np.median(NUMBERS)], rel=0.01
    )
    nothing = numbers.where("x is null")
    assert MinMax.fit(nothing, "x").transform([1.0]).tolist() == [1.0]
    assert Standardise.fit(nothing, "x").transform([1.0]).tolist() == [1.0]


@pytest.mark.parametrize("transform", [MinMax(0, 5), OneHot(Vocabulary(("a", "b"))), Missing(1.0, flag=True)])
def test_a_column_on_spark_is_what_the_array_becomes(spark: SparkSession, transform: Transform) -> None:
    values = ["a", None, "z"] if isinstance(transform, OneHot) else [1.5, None, 9.0]
    rows = spark.createDataFrame([(n, value) for n, value in enumerate(values)], ["n", "x"])
    found = [row["y"] for row in on_spark(rows, "x", transform, "y").orderBy("n").collect()]
    expected = transform.transform(values)
    np.testing.assert_allclose(np.array(found, float), np.asarray(expected, float))


def test_whitening_leaves_no_correlation_and_agrees_with_another_implementation(spark: SparkSession) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2000, 3)) @ rng.normal(size=(3, 3)) + [1, 2, 3]
    frame = spark.createDataFrame(pd.DataFrame(x, columns=["a", "b", "c"]))
    pca = Whiten.fit(frame, ["a", "b", "c"]).transform(x)
    zca = Whiten.fit(frame, ["a", "b", "c"], "zca").transform(x)
    for white in (pca, zca):
        np.testing.assert_allclose(np.cov(white.T, bias=True), np.eye(3), atol=1e-3)
        np.testing.assert_allclose(white.mean(axis=0), 0, atol=1e-9)
    theirs = PCA(whiten=True).fit_transform(x)
    np.testing.assert_allclose(np.abs(pca), np.abs(theirs), atol=5e-3)
    # ZCA is the white data that is nearest to the input.
    centred = (x - x.mean(0)) / x.std(0)
    assert (
        np.diag(np.corrcoef(zca.T, centred.T)[:3, 3:]).min()
        > np.diag(np.abs(np.corrcoef(pca.T, centred.T)[:3, 3:])).min()
    )
    assert Whiten.fit(frame, ["a", "b", "c"], out=2).transform(x).shape == (2000, 2)


def test_vocabularies_of_values_and_of_lists(spark: SparkSession) -> None:
    rows = spark.createDataFrame(
        [("b", ["x", "y"]), ("b", ["x"]), ("a", None), ("c", ["x", "z"]), (None, [])], "v string, w array<string>"
    )
    assert Vocabulary.fit(rows, "v").values == ("b", "a", "c")
    assert Vocabulary.fit(rows, "v", at_least=2).values == ("b",)
    assert Vocabulary.fit(rows, "v", most=2).values == ("b", "a")
    lists = MultiValued.fit(rows, "w", length=2)
    assert lists.vocabulary.values == ("x", "y", "z")
    assert LastItems.fit(rows, "w", length=1).transform([["x", "z"]]).tolist() == [[4]]
    found = [row["ids"] for row in on_spark(rows, "w", lists, "ids").collect()]
    assert found == [[2, 3], [2, 0], [0, 0], [2, 4], [0, 0]]


@pytest.mark.parametrize("method", ["moments", "em"])
def test_the_prior_of_click_rates_is_found(spark: SparkSession, method: str) -> None:
    """F9: counts drawn from a known prior; rates of few impressions become much better estimates."""
    rng = np.random.default_rng(2)
    truth = rng.beta(3, 27, 20_000)
    shown = rng.integers(1, 60, 20_000)
    clicks = rng.binomial(shown, truth)
    frame = spark.createDataFrame(pd.DataFrame({"clicks": clicks, "shown": shown}))
    found = SmoothedRate.fit(frame, "clicks", "shown", method)  # type: ignore[arg-type]
    assert found.alpha == pytest.approx(3, rel=0.12)
    assert found.beta == pytest.approx(27, rel=0.12)
    smooth = found.transform(np.stack([clicks, shown], axis=1))
    assert np.mean((smooth - truth) ** 2) < 0.5 * np.mean((clicks / shown - truth) ** 2)


def test_interests_find_who_likes_what(spark: SparkSession) -> None:
    """F10: counted and learned; the regression agrees with scikit-learn's on the same penalty."""
    rng = np.random.default_rng(3)
    rows = []
    for user in range(30):
        for _ in range(40):
            topic = int(rng.integers(3))
            rows.append((f"u{user}", f"t{topic}", int(rng.random() < (0.7 if topic == user % 3 else 0.1))))
    rows.append(("fresh", "t0", 0))
    examples = spark.createDataFrame([*rows, ("u0", None, 1)], "user_id string, category string, label int")
    found = interests(examples, FeatureSettings()).toPandas()
    first = found[(found["rank"] == 1) & (found["user_id"] != "fresh")].set_index("user_id")["tag"]
    assert all(first[f"u{user}"] == f"t{user % 3}" for user in range(30))
    assert abs(found[found["user_id"] == "fresh"]["interest"].iloc[0]) < 0.2
    frame = pd.DataFrame(rows, columns=["user_id", "tag", "label"])
    pairs = frame["user_id"] + "|" + frame["tag"]
    x = pd.get_dummies(frame["tag"]).join(pd.get_dummies(pairs)).astype(float)
    # MLlib's objective is the mean loss + λ/2 |w|², scikit-learn's the sum + |w|² / 2C.
    theirs = LogisticRegression(C=pairs.nunique() / len(rows), tol=1e-8, max_iter=5000).fit(x, frame["label"])
    expected = dict(zip(x.columns, theirs.coef_[0], strict=True))
    for row in found.itertuples():
        assert row.interest == pytest.approx(expected[f"{row.user_id}|{row.tag}"], abs=0.05)
    assert found["clicks"].sum() == frame["label"].sum()
    nobody = interests(examples.where("label = 0"), FeatureSettings()).toPandas()
    assert not nobody["interest"].any()


def test_sampling_keeps_the_click_rate_by_weights(spark: SparkSession) -> None:
    rows = spark.createDataFrame([(f"e{i}", int(i % 10 == 0)) for i in range(5000)], "example_id string, label int")
    for sampled, share in ((under_sample(rows, 0.2), 0.36), (over_sample(rows, 4.5), 0.33)):
        frame = sampled.toPandas()
        assert frame["label"].mean() == pytest.approx(share, abs=0.03)
        assert (frame["label"] * frame["weight"]).sum() / frame["weight"].sum() == pytest.approx(0.1, abs=0.01)
        assert frame.equals(sampled.toPandas())
    assert class_weights(rows) == pytest.approx({0: 5000 / (2 * 4500), 1: 5000 / (2 * 500)})
    with pytest.raises(ValueError, match="over 0 and at most 1"):
        under_sample(rows, 0)


# What a user appends to the catalog: see docs/extending.md.
NEW = (
    Dense(
        "user_click_share", "coalesce(user_clicks, 0) / (coalesce(user_shown, 0) + 1)", "an example", scale="min_max"
    ),
    Dense("item_age", "datediff(at, published_at)", "another", "arctan", scale="none", default=-1.0),
    Sparse("city_known", "city", 16, "a vocabulary", at_least=4),
)


def test_a_new_feature_is_the_same_offline_and_online(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    dense = [feature for feature in (*COLUMNS, *NEW) if isinstance(feature, Dense)]
    for module in (features.transforms.offline, features.transforms.online):
        monkeypatch.setattr(module, "COLUMNS", (*SPARSE, NEW[2], *dense))
    monkeypatch.setattr(features.transforms.offline, "DENSE", dense)
    monkeypatch.setattr(features.transforms.offline, "VOCABULARIES", [NEW[2]])
    days = [datetime(2026, 4, day, 12) for day in (1, 2, 3)]
    shown = [
        (f"e{day.day}{u}", f"u{u}", "i", day, day.date(), 1, "phone", int(u == 0)) for day in days for u in range(4)
    ]
    columns = "example_id string, user_id string, item_id string, at timestamp, day date, position int, device string, label int"
    rows = spark.createDataFrame(shown, columns)
    cities = ["here", "here", "there", None]
    users = [(f"u{u}", "F", "1", cities[u]) for u in range(4)]
    people = spark.createDataFrame(users, "user_id string, gender string, age_group string, city string")
    item = ("i", "t", "a", datetime(2026, 3, 1))
    items = spark.createDataFrame([item], "item_id string, category string, author string, published_at timestamp")
    raw = raw_features(rows, people, items, rows, Rates(0.3), FeatureSettings())
    statistics = fit(raw, Rates(0.3))
    assert statistics.vocabulary == {"city_known": ["here"]}
    offline = {row["example_id"]: row.asDict() for row in standardise(raw, statistics).collect()}
    known = Known(Rates(0.3))
    item_row = dict(zip(("item_id", "category", "author", "published_at"), item, strict=True))
    user_rows = {u[0]: dict(zip(("user_id", "gender", "age_group", "city"), u, strict=True)) for u in users}
    online = OnlineFeatures(Statistics(**statistics.as_dict()), known, 20.0, user_rows, {"i": item_row})
    names = [part.split()[0] for part in columns.split(", ")]
    for day in days:
        today = [dict(zip(names, row, strict=True)) for row in shown if row[3] == day]
        for request in today:
            found = online.row(request)
            for feature in NEW:
                expected = offline[request["example_id"]][f"f_{feature.name}"]
                assert found[feature.name] == pytest.approx(expected, abs=1e-6), feature.name
        for request in today:
            known.add({**request, "category": "t"})
    assert {row["f_city_known"] for row in offline.values()} == {0, 1, 2}
    assert max(row["f_user_click_share"] for row in offline.values()) == 1
