"""What transforms learn on Spark, against numpy and scikit-learn; and interests, sampling and new definitions."""

import json
from dataclasses import asdict
from datetime import datetime

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from conf import UserError
from features import catalog
from features.catalog import COLUMNS, Dense, Sparse
from features.compute.request_rows import RequestFeatures
from features.compute.spark_rows import fit_statistics, scale_features, unscaled_features
from features.compute.training_statistics import TrainingStatistics
from features.counts.counts_before import ClickRates, fit_click_rates
from features.counts.running_counts import RunningCounts
from features.dataset.sampling import balance, over_sample, under_sample
from features.interests import topic_counts, user_interests
from features.settings import FeatureSettings
from features.transforms import transformed_source, with_transformed
from features.transforms.beta_prior import BetaPrior
from features.transforms.numeric import Arctan, Quantile
from features.transforms.vocabulary import Vocabulary
from features.transforms.whitening import Whitening

NUMBERS = np.random.default_rng(0).lognormal(size=1000)


@pytest.fixture(scope="module")
def numbers(spark: SparkSession) -> DataFrame:
    """1000 skewed numbers, a null and a NaN."""
    rows = [(float(x),) for x in NUMBERS] + [(None,), (float("nan"),)]
    return spark.createDataFrame(rows, "x double")


def test_fits_see_numbers_and_skip_what_is_missing(numbers: DataFrame) -> None:
    assert Arctan.fit(numbers, "x").scale == pytest.approx(np.median(NUMBERS), rel=0.01)
    shares = Quantile.fit(numbers, "x", bins=20).transform(NUMBERS)
    np.testing.assert_allclose(shares, (np.argsort(np.argsort(NUMBERS)) + 0.5) / 1000, atol=0.06)
    nothing = numbers.where("x is null")
    assert Arctan.fit(nothing, "x").scale == 1
    assert Quantile.fit(nothing, "x").transform([1.0]).tolist() == [0.5]


@pytest.mark.parametrize(
    ("transform", "values"),
    [
        (Quantile((0.0, 1.0, 9.0)), [1.5, None, 9.0]),
        (Arctan(2.0), [1.5, None, 9.0]),
        (Vocabulary(("a", "b")), ["a", None, "z"]),
    ],
    ids=["quantile", "arctan", "vocabulary"],
)
def test_a_column_on_spark_is_what_the_array_becomes(
    spark: SparkSession, transform: Quantile | Arctan | Vocabulary, values: list[object]
) -> None:
    rows = spark.createDataFrame(list(enumerate(values)), ["n", "x"])
    column = [row["x"] for row in with_transformed(rows, "x", transform).orderBy("n").collect()]
    np.testing.assert_allclose(np.array(column, float), transform.transform(values).astype(float))


def test_whitening_leaves_no_correlation_and_agrees_with_scikit_learn(spark: SparkSession) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2000, 3)) @ rng.normal(size=(3, 3)) + [1, 2, 3]
    frame = spark.createDataFrame(pd.DataFrame(x, columns=["a", "b", "c"]))
    pca = Whitening.fit(frame, ["a", "b", "c"], "pca", 1e-5).transform(x)
    zca = Whitening.fit(frame, ["a", "b", "c"], "zca", 1e-5).transform(x)
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
    with pytest.raises(ValueError, match="nothing to whiten by"):
        Whitening.fit(frame.limit(0), ["a"], "pca", 1e-5)


def test_whitening_keeps_its_digits_where_means_are_large(spark: SparkSession) -> None:
    """A deviation of 1 around 1e9, as of seconds since 1970: E[x²] − E[x]² has none of its digits left in float64."""
    x = np.random.default_rng(2).normal(size=(1000, 2)) @ [[1.0, 0.5], [0.0, 1.0]] + [1e9, -1e8]
    frame = spark.createDataFrame(pd.DataFrame(x, columns=["a", "b"]))
    white = Whitening.fit(frame, ["a", "b"], "zca", 1e-5).transform(x)
    np.testing.assert_allclose(np.cov(white.T, bias=True), np.eye(2), atol=1e-3)


def test_a_vocabulary_has_the_frequent_values_first(spark: SparkSession) -> None:
    rows = spark.createDataFrame([("b",), ("b",), ("a",), ("c",), (None,)], "v string")
    assert Vocabulary.fit(rows, "v").values == ("b", "a", "c")
    assert Vocabulary.fit(rows, "v", at_least=2).values == ("b",)
    assert Vocabulary.fit(rows, "v", max_values=2).values == ("b", "a")


@pytest.mark.parametrize("method", ["moments", "em"])
def test_the_prior_of_click_rates_is_estimated(spark: SparkSession, method: str) -> None:
    """F9: counts drawn from a known prior; rates of few impressions become much better estimates."""
    rng = np.random.default_rng(2)
    truth = rng.beta(3, 27, 20_000)
    shown = rng.integers(1, 60, 20_000)
    clicks = rng.binomial(shown, truth)
    frame = spark.createDataFrame(pd.DataFrame({"clicks": clicks, "shown": shown}))
    prior = BetaPrior.fit(frame, "clicks", "shown", method)  # type: ignore[arg-type]
    assert prior.alpha == pytest.approx(3, rel=0.12)
    assert prior.beta == pytest.approx(27, rel=0.12)
    smooth = (clicks + prior.alpha) / (shown + prior.alpha + prior.beta)
    assert np.mean((smooth - truth) ** 2) < 0.5 * np.mean((clicks / shown - truth) ** 2)
    rate = frame.select(prior.rate(frame["clicks"], frame["shown"]).alias("rate")).toPandas()["rate"]
    np.testing.assert_allclose(rate, smooth)


def test_the_strength_of_the_prior_is_a_number_or_estimated_from_the_items(spark: SparkSession) -> None:
    rng = np.random.default_rng(2)
    rows = [(f"i{i}", 1, int(click)) for i in range(400) for click in rng.random(50) < rng.beta(3, 7)]
    train = spark.createDataFrame(rows, "item_id string, position int, label int")
    assert fit_click_rates(train, 20.0).strength == 20
    assert fit_click_rates(train, "moments").strength == pytest.approx(10, rel=0.25)


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
    found = user_interests(topic_counts(examples), FeatureSettings()).toPandas()
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
    nobody = user_interests(topic_counts(examples.where("label = 0")), FeatureSettings()).toPandas()
    assert not nobody["interest"].any()


def test_sampling_keeps_the_click_rate_by_weights(spark: SparkSession) -> None:
    rows = spark.createDataFrame([(f"e{i}", int(i % 10 == 0)) for i in range(5000)], "example_id string, label int")
    for sampled, share in ((under_sample(rows, 0.2, 7), 0.36), (over_sample(rows, 4.5, 7), 0.33)):
        frame = sampled.toPandas()
        assert frame["label"].mean() == pytest.approx(share, abs=0.03)
        assert (frame["label"] * frame["weight"]).sum() / frame["weight"].sum() == pytest.approx(0.1, abs=0.01)
        assert frame.equals(sampled.toPandas())
    weighted = balance(rows, FeatureSettings(balance="class_weights")).toPandas()
    weights = weighted.groupby("label")["weight"].first().to_dict()
    assert weights == pytest.approx({0: 5000 / (2 * 4500), 1: 5000 / (2 * 500)})
    assert balance(rows, FeatureSettings()).columns == ["example_id", "label"]
    with pytest.raises(ValueError, match="over 0 and at most 1"):
        under_sample(rows, 0, 7)
    with pytest.raises(ValueError, match="once or more"):
        over_sample(rows, 0.5, 7)


# What a user appends to the catalog: see docs/features.md.
NEW = (
    Dense(
        "user_click_share", "coalesce(user_clicks, 0) / (coalesce(user_shown, 0) + 1)", "an example", scale="min_max"
    ),
    Dense("item_age", "datediff(at, published_at)", "another", "arctan", scale="none", default=-1.0),
    Dense("shown_quantile", "coalesce(user_shown, 0)", "by rank", "quantile"),
    Dense("age_log", "0 - datediff(at, published_at)", "negative", "signed_log", scale="symmetric"),
    Dense("no_click_yet", "isnull(user_last_click)", "a flag", scale="none"),
    Sparse("city_known", "city", 16, "a vocabulary", at_least=4),
)


@pytest.mark.parametrize("whiten", ["none", "zca"])
def test_a_new_feature_is_the_same_for_training_and_for_a_request(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, whiten: str
) -> None:
    dense = [feature for feature in (*COLUMNS, *NEW) if isinstance(feature, Dense)]
    sparse = [feature for feature in (*COLUMNS, *NEW) if isinstance(feature, Sparse)]
    monkeypatch.setattr(catalog, "FEATURES", (*catalog.FEATURES, *NEW))
    monkeypatch.setattr(catalog, "DENSE", dense)
    monkeypatch.setattr(catalog, "SPARSE", sparse)
    monkeypatch.setattr(catalog, "COLUMNS", (*sparse, *dense))
    settings = FeatureSettings(whiten=whiten, whiten_epsilon=0.1)
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
    unscaled = unscaled_features(rows, people, items, rows, ClickRates(0.3), settings)
    statistics = fit_statistics(unscaled, ClickRates(0.3), settings)
    assert statistics.vocabulary == {"city_known": ["here"]}
    offline = {row["example_id"]: row.asDict() for row in scale_features(unscaled, statistics).collect()}
    counts = RunningCounts(ClickRates(0.3))
    item_row = dict(zip(("item_id", "category", "author", "published_at"), item, strict=True))
    user_rows = {u[0]: dict(zip(("user_id", "gender", "age_group", "city"), u, strict=True)) for u in users}
    online = RequestFeatures(
        TrainingStatistics(**json.loads(json.dumps(asdict(statistics)))), counts, user_rows, {"i": item_row}
    )
    names = [part.split()[0] for part in columns.split(", ")]
    for day in days:
        today = [dict(zip(names, row, strict=True)) for row in shown if row[3] == day]
        for request in today:
            row = online.scaled(request)
            for feature in NEW:
                expected = offline[request["example_id"]][f"f_{feature.name}"]
                assert row[feature.name] == pytest.approx(expected, abs=1e-5 if whiten == "zca" else 1e-6), feature.name
        for request in today:
            counts.add({**request, "category": "t"})
    assert {row["f_city_known"] for row in offline.values()} == {0, 1, 2}
    if whiten == "none":
        assert max(row["f_user_click_share"] for row in offline.values()) == 1
        assert {row["f_no_click_yet"] for row in offline.values()} == {0, 1}
        assert {-1, 1} <= {row["f_age_log"] for row in offline.values()}


def test_an_unknown_transform_is_refused_by_name() -> None:
    with pytest.raises(
        UserError, match=r"feature 'x' has the transform 'magic'; choose from identity, log1p.*quantile"
    ):
        transformed_source("x", "magic", "item_shown")
