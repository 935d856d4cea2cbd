"""The distributed metrics against the local ones, and both against another implementation."""

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession

from features.metrics import classification, ranking
from features.metrics import spark as spark_metrics


def random_lists(users: int = 50, items: int = 30, length: int = 20) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(2)
    ranked = pd.DataFrame(
        [(f"u{u}", f"i{i}", n + 1) for u in range(users - 5) for n, i in enumerate(rng.permutation(items)[:length])],
        columns=["user_id", "item_id", "rank"],
    )
    truth = pd.DataFrame(
        [(f"u{u}", f"i{i}") for u in range(users) for i in rng.permutation(items)[: rng.integers(1, 8)]],
        columns=["user_id", "item_id"],
    )
    return ranked, truth


def test_lists_measured_on_spark_and_with_numpy_agree(spark: SparkSession) -> None:
    ranked, truth = random_lists()
    with_numpy = ranking.ranking_metrics(ranked, truth, [5, 10])
    frame = spark.createDataFrame(ranked.assign(list="one"))
    on_spark = spark_metrics.ranking_metrics(frame, spark.createDataFrame(truth), [5, 10])
    for (name, metric, k), value in on_spark.items():
        assert name == "one"
        assert value == pytest.approx(with_numpy[metric, k])


def test_shares_on_spark_do_not_exceed_1_by_rounding(spark: SparkSession) -> None:
    """Users whose 9, 11 … items are all listed: a sum of 9 ninths is 1.0000000000000002."""
    for users, length in ((1, 9), (3, 11)):
        ranked = pd.DataFrame(
            [("all", f"u{u}", f"i{i}", i + 1) for u in range(users) for i in range(length)],
            columns=["list", "user_id", "item_id", "rank"],
        )
        frame = spark.createDataFrame(ranked)
        metrics = spark_metrics.ranking_metrics(frame, frame.select("user_id", "item_id"), [length])
        assert max(metrics.values()) <= 1.0  # below by rounding where Spark adds in another order
        assert min(metrics.values()) > 1 - 1e-12


@pytest.mark.wide  # ranx compiles for most of a minute
def test_lists_measured_with_numpy_and_by_ranx_agree() -> None:
    """The same definitions, except that its MAP divides by min(k, positives) in no version."""
    from ranx import Qrels, evaluate
    from ranx import Run as RanxRun

    ranked, truth = random_lists()
    with_numpy = ranking.ranking_metrics(ranked, truth, [5, 10])
    qrels = Qrels({user: dict.fromkeys(found["item_id"], 1) for user, found in truth.groupby("user_id")})
    lists = {
        user: {item: 100.0 - rank for item, rank in zip(found["item_id"], found["rank"], strict=True)}
        for user, found in ranked.groupby("user_id")
    }
    run = RanxRun(lists | {user: {"none": 1.0} for user in truth["user_id"].unique() if user not in lists})
    for k in (5, 10):
        theirs = evaluate(
            qrels, run, [f"{name}@{k}" for name in ("precision", "recall", "ndcg", "map", "mrr", "hit_rate")]
        )
        for name, value in theirs.items():
            assert with_numpy[name.split("@")[0], k] == pytest.approx(value), name


def test_clicks_measured_on_spark_and_with_numpy_agree(spark: SparkSession) -> None:
    rng = np.random.default_rng(2)
    for score in (rng.random(503).clip(0.01, 0.99), np.round(rng.random(503), 2).clip(0.01, 0.99)):
        label = (rng.random(503) < score).astype(int)
        user = rng.integers(0, 40, 503)
        frame = pd.DataFrame({"label": label, "score": score, "user_id": [f"u{n}" for n in user]})
        found = spark_metrics.click_metrics(spark.createDataFrame(frame))
        expected = classification.click_metrics(label, score, user)
        assert found.pop("rows") == 503
        if len(np.unique(score)) < 503:  # bins may share out equal scores either way
            found["ece"] = expected["ece"]
        assert found == pytest.approx(expected, rel=1e-9)
    one_class = spark_metrics.click_metrics(spark.createDataFrame(frame[frame["label"] == 0]))
    assert set(one_class) == {"log_loss", "rows", "ece"}
