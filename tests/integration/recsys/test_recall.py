"""Recall on Spark: what is fitted and proposed there equals what the driver fits and proposes from the same positives."""

from collections.abc import Iterator
from datetime import datetime

import numpy as np
import pandas as pd
import pytest
from data.factors import factors_of
from pyspark.sql import DataFrame, SparkSession
from scipy import sparse

from recsys.recall.channels import CHANNELS, Scorer, ease, fit_channel, item_cf
from recsys.recall.history import History, UserBatch, user_batch
from recsys.recall.merge import ChannelWeights
from recsys.recall.positives import collect_positives
from recsys.recall.propose import RecallPlan, propose, propose_on_driver
from recsys.settings import RecallSettings

NOW = datetime(2026, 4, 10).timestamp()
SETTINGS = RecallSettings(als_rank=4, als_iterations=3, tower_dim=4, ease_l2=1.0, user_ease_l2=1.0, shrink=0.5)
USERS = [f"u{u}" for u in range(10)]
FACTORS = factors_of(USERS, [f"i{i}" for i in range(10)])


def items_of(number: int) -> pd.DataFrame:
    """Items i0 … with two topics; the last one, iz, is new, without a title, and nobody chose it."""
    rows = [
        (f"i{i}", f"word{i % 2} thing", f"topic{i % 2}", f"a{i % 3}", datetime(2026, 2, 1)) for i in range(number - 1)
    ]
    last = ("iz", None, None, None, datetime(2026, 4, 9))
    return pd.DataFrame([*rows, last], columns=["item_id", "title", "category", "author", "published_at"])


def positives_of(spark: SparkSession, pairs: list[tuple[str, str]]) -> DataFrame:
    rows = [(user, item, datetime(2026, 4, 1 + i % 9, i % 24), "train") for i, (user, item) in enumerate(pairs)]
    return spark.createDataFrame(rows, "user_id string, item_id string, at timestamp, split string")


CHECKERBOARD = [(f"u{u}", f"i{i}") for u in range(10) for i in range(10) if u % 2 == i % 2 and i != u]
# A repeated choice, and an item that the item table lacks.
CHOICES = [*CHECKERBOARD, ("u0", "i2"), ("u3", "unlisted"), ("u4", "unlisted")]


@pytest.fixture(scope="module")
def distributed(spark: SparkSession) -> Iterator[History]:
    """Even users chose even items, odd users odd ones; each lacks one of theirs. Nobody chose iz."""
    history = History(positives_of(spark, CHOICES), items_of(11), NOW, SETTINGS, factors=FACTORS)
    yield history
    history.unpersist()


@pytest.fixture(scope="module")
def collected(spark: SparkSession) -> History:
    positives = collect_positives(positives_of(spark, CHOICES))
    return History(None, items_of(11), NOW, SETTINGS, collected=positives, factors=FACTORS)


@pytest.fixture(scope="module")
def scorers(distributed: History) -> dict[str, Scorer]:
    return {name: fit_channel(name, distributed, SETTINGS) for name in CHANNELS}


def batch_for(spark: SparkSession, history: History, users: list[str]) -> UserBatch:
    frame = history.for_users(spark.createDataFrame([(user,) for user in users], "user_id string")).toPandas()
    ordered = frame.set_index("user_id").loc[users].reset_index()
    return user_batch(ordered, history.num_items, history.settings.history_half_life_days)


def test_histories_on_spark_are_those_on_the_driver(
    spark: SparkSession, distributed: History, collected: History
) -> None:
    pd.testing.assert_frame_equal(distributed.items, collected.items, check_dtype=False)
    assert distributed.items["item_id"].tolist() == [*[f"i{i}" for i in range(10)], "iz", "unlisted"]
    np.testing.assert_allclose(distributed.heat, collected.heat)
    np.testing.assert_array_equal(distributed.popularity, collected.popularity)
    assert collected.all_users is not None
    for batch in (batch_for(spark, distributed, USERS), distributed.newest_users(100)):
        rows = pd.Index(collected.all_users.users).get_indexer(batch.users)
        same = collected.all_users.take(rows, batch.users)
        for mine, other in ((batch.chosen, same.chosen), (batch.recent, same.recent)):
            np.testing.assert_array_equal(mine.indptr, other.indptr)
            np.testing.assert_array_equal(mine.indices, other.indices)  # newest first, ties by item
            np.testing.assert_allclose(mine.data, other.data, rtol=1e-5)
    assert distributed.newest_users(3).users.tolist() == collected.newest_users(3).users.tolist()


def test_what_lists_leave_out_is_the_same_on_spark_and_on_the_driver(spark: SparkSession) -> None:
    """One item that the user chose, one that they did not, and one that is no item; of a user without a history, too."""
    pairs = pd.DataFrame({"user_id": [USERS[0], USERS[0], "cold", USERS[1]], "item_id": ["i2", "i1", "i3", "gone"]})
    positives, users = positives_of(spark, CHOICES), [*USERS[:3], "cold"]
    on_driver = History(positives, items_of(11), NOW, SETTINGS, collected=collect_positives(positives), excluded=pairs)
    on_spark = History(positives, items_of(11), NOW, SETTINGS, excluded=spark.createDataFrame(pairs))
    assert on_driver.hidden is not None
    expected = on_driver.hidden.take(np.array(users, object)).toarray()
    assert [np.flatnonzero(row).tolist() for row in expected] == [[1, 2], [], [], [3]]
    np.testing.assert_array_equal(batch_for(spark, on_spark, users).excluded.toarray(), expected)
    on_spark.unpersist()


def test_only_the_newest_items_of_a_history_count(spark: SparkSession) -> None:
    settings = SETTINGS.model_copy(update={"history": 2})
    positives = positives_of(spark, CHOICES)
    lengths = []
    for chosen in (None, collect_positives(positives)):
        history = History(positives, items_of(11), NOW, settings, collected=chosen)
        batch = batch_for(spark, history, USERS) if chosen is None else history.all_users
        assert batch is not None
        lengths.append(np.diff(batch.chosen.indptr).tolist())
        history.unpersist()
    assert lengths == [[2] * 10] * 2


@pytest.mark.parametrize("name", CHANNELS)
def test_a_channel_fitted_on_spark_lists_what_one_on_the_driver_does(
    spark: SparkSession, distributed: History, collected: History, scorers: dict[str, Scorer], name: str
) -> None:
    batch = batch_for(spark, distributed, [*USERS, "cold"])
    mine, other = (scorer.top_items(batch, 3) for scorer in (scorers[name], fit_channel(name, collected, SETTINGS)))
    if name == "als":  # another random start: the best item is of the user's half of the board in both
        for top in (mine, other):
            assert all(item % 2 == row % 2 for row, item in enumerate(top.items[:10, 0]) if item < 10)
    else:
        np.testing.assert_allclose(mine.scores, other.scores, rtol=1e-4, atol=1e-5)
        assert (mine.items == other.items).mean() > 0.9  # ties by rounding aside


@pytest.mark.parametrize("kind", ["cosine", "jaccard"])
def test_similarities_on_spark_are_those_on_the_driver(distributed: History, collected: History, kind: str) -> None:
    settings = SETTINGS.model_copy(update={"similarity": kind})
    pairs = item_cf.distributed_similarity(distributed, settings).toPandas()
    assert collected.all_users is not None
    similarity = item_cf.similar_items(collected.all_users.chosen, settings)
    shape = similarity.shape
    on_spark = sparse.csr_matrix((pairs["similarity"], (pairs["item"], pairs["other"])), shape=shape)
    np.testing.assert_allclose(on_spark.toarray(), similarity.toarray(), rtol=1e-6)


def test_jaccard_of_items_with_the_same_users_is_1(spark: SparkSession) -> None:
    """|A ∩ B| / |A ∪ B| is 1 for equal sets, 1/3 where two users of three by weight have one of both."""
    pairs = [
        ("u0", "i0"),
        ("u0", "i1"),
        ("u1", "i0"),
        ("u1", "i1"),
        ("u2", "i2"),
        ("u2", "i3"),
        ("u3", "i2"),
        ("u4", "i3"),
    ]
    history = History(positives_of(spark, pairs), items_of(1)[:0], NOW, SETTINGS)
    rows = item_cf.distributed_similarity(history, RecallSettings(shrink=0.0, similarity="jaccard")).collect()
    similarity = {(row["item"], row["other"]): row["similarity"] for row in rows}
    one, two = 1 / np.log(2), 1 / np.log(3)  # weights of users with one item and with two
    assert similarity == pytest.approx(
        {(0, 1): 1.0, (1, 0): 1.0, (2, 3): two / (two + 2 * one), (3, 2): two / (two + 2 * one)}
    )
    history.unpersist()


def test_ease_on_spark_collects_the_pairs_of_popular_items_only(distributed: History, collected: History) -> None:
    settings = SETTINGS.model_copy(update={"ease_items": 4})
    mine, other = (ease.fit(history, settings).model for history in (distributed, collected))
    np.testing.assert_array_equal(mine.popular, other.popular)
    assert len(mine.popular) == 4
    np.testing.assert_allclose(mine.weights, other.weights, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("partitions", [1, 2, 5])
def test_candidates_on_spark_equal_those_of_the_driver(
    spark: SparkSession, distributed: History, collected: History, scorers: dict[str, Scorer], partitions: int
) -> None:
    ids = distributed.items["item_id"].to_numpy(dtype=object)
    weights = ChannelWeights(None, list(CHANNELS).index("hot"))
    plan = RecallPlan(scorers, dict.fromkeys(CHANNELS, 3), weights, ids, 6, 5, 30.0)
    users = np.array([*USERS, "cold"], object)
    frame = spark.createDataFrame([(user,) for user in users], "user_id string").repartition(partitions)
    candidates = propose(distributed, frame, plan).toPandas()
    assert collected.all_users is not None
    expected = pd.concat([batch.to_pandas() for batch in propose_on_driver(collected.all_users, users, plan)])
    left, right = (x.sort_values(["user_id", "rank"], ignore_index=True) for x in (candidates, expected))
    pd.testing.assert_frame_equal(left, right)
    pairs = set(zip(candidates["user_id"], candidates["item_id"], strict=True))
    assert len(pairs) == len(candidates)
    assert not pairs & set(CHOICES)
    assert set(candidates["user_id"]) == set(users)  # cold users get something sensible too
    assert candidates[candidates["user_id"] == "cold"]["channels"].str.contains("hot").any()


@pytest.mark.parametrize("where", ["spark", "driver"])
def test_a_day_without_any_choice_still_proposes_new_items(spark: SparkSession, where: str) -> None:
    positives = positives_of(spark, [])
    chosen = collect_positives(positives) if where == "driver" else None
    history = History(positives, items_of(4), NOW, SETTINGS, collected=chosen)
    channels = [name for name in CHANNELS if name != "mf"]  # nothing was shown, either
    scorers = {name: fit_channel(name, history, SETTINGS) for name in channels}
    ids = history.items["item_id"].to_numpy(dtype=object)
    plan = RecallPlan(scorers, dict.fromkeys(channels, 3), ChannelWeights(None, 0), ids, 6, 5, 30.0)
    if history.all_users is None:
        items = propose(history, spark.createDataFrame([("u",)], "user_id string"), plan).toPandas()["item_id"].tolist()
    else:
        batches = list(propose_on_driver(history.all_users, np.array(["u"], object), plan))
        items = batches[0]["item_id"].to_pylist()
    assert items == ["iz"]
    history.unpersist()
