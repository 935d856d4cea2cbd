"""Recall on Spark: what every channel promises, some of them against matrices, and merging."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession
from scipy import sparse

from conf import UserError
from recsys.recall.channels import CHANNELS, Scorer, channel_named, ease, item_cf, user_cf
from recsys.recall.history import History, UserBatch, user_batch
from recsys.recall.merge import ChannelWeights
from recsys.recall.propose import RecallPlan, mask_chosen, propose, propose_batch, standardize
from recsys.settings import RecallSettings

NOW = datetime(2026, 4, 10).timestamp()
SETTINGS = RecallSettings(als_rank=4, als_iterations=3, tower_dim=4, ease_l2=1.0, user_ease_l2=1.0, shrink=0.5)


def items_of(spark: SparkSession, number: int) -> DataFrame:
    """Items i0 … with two topics; the last one, iz, is new, without a title, and nobody chose it."""
    rows = [
        (f"i{i}", f"word{i % 2} thing", f"topic{i % 2}", f"a{i % 3}", datetime(2026, 2, 1)) for i in range(number - 1)
    ]
    last = ("iz", None, None, None, datetime(2026, 4, 9))
    return spark.createDataFrame(
        [*rows, last], "item_id string, title string, category string, author string, published_at timestamp"
    )


def chosen(spark: SparkSession, pairs: list[tuple[str, str]]) -> DataFrame:
    rows = [(user, item, datetime(2026, 4, 1 + i % 9, i % 24)) for i, (user, item) in enumerate(pairs)]
    return spark.createDataFrame(rows, "user_id string, item_id string, at timestamp")


CHECKERBOARD = [(f"u{u}", f"i{i}") for u in range(10) for i in range(10) if u % 2 == i % 2 and i != u]


@pytest.fixture(scope="module")
def checkerboard(spark: SparkSession) -> Iterator[History]:
    """Even users chose even items, odd users odd ones; each lacks one of theirs. Nobody chose iz."""
    history = History(chosen(spark, CHECKERBOARD), items_of(spark, 11), NOW, SETTINGS)
    yield history
    history.unpersist()


def batch_for(spark: SparkSession, history: History, users: list[str]) -> UserBatch:
    frame = history.for_users(spark.createDataFrame([(user,) for user in users], "user_id string")).toPandas()
    ordered = frame.set_index("user_id").loc[users].reset_index()
    return user_batch(ordered, history.num_items, history.settings.history_half_life_days)


@pytest.fixture(scope="module")
def scorers(checkerboard: History) -> dict[str, Scorer]:
    return {name: fit(checkerboard, SETTINGS) for name, fit in CHANNELS.items()}


@pytest.mark.parametrize("name", CHANNELS)
def test_what_every_channel_promises(
    spark: SparkSession, checkerboard: History, scorers: dict[str, Scorer], name: str
) -> None:
    """R2: a score for every item or −inf, no NaN, the same again, and a user is scored the same in any company."""
    batch = batch_for(spark, checkerboard, ["u0", "u1", "cold"])
    scores = np.asarray(scorers[name].score(batch))
    assert scores.shape == (3, 11)
    assert not np.isnan(scores).any()
    assert np.isfinite(mask_chosen(scores, batch)[:2]).any(axis=1).all()  # something new for everyone with a history
    again = CHANNELS[name](checkerboard, SETTINGS).score(batch)
    np.testing.assert_allclose(again, scores, rtol=1e-5, atol=1e-6)
    alone = scorers[name].score(batch_for(spark, checkerboard, ["u1"]))
    np.testing.assert_allclose(alone[0], scores[1], rtol=1e-4, atol=1e-5)
    nobody = scorers[name].score(batch_for(spark, checkerboard, []))
    assert np.asarray(nobody).shape == (0, 11)
    if name not in ("hot", "new"):
        assert not np.isfinite(scores[2]).any()  # nothing is known of them: others are asked
    else:
        assert np.isfinite(scores[2]).any()


@pytest.mark.parametrize("name", ["ease", "user_ease", "item_cf", "user_cf", "als", "tags", "content", "two_tower"])
def test_every_personal_channel_finds_the_missing_square(
    spark: SparkSession, checkerboard: History, scorers: dict[str, Scorer], name: str
) -> None:
    users = [f"u{u}" for u in range(10)]
    batch = batch_for(spark, checkerboard, users)
    best = mask_chosen(scorers[name].score(batch), batch).argmax(axis=1)
    found = np.mean([item % 2 == u % 2 for u, item in enumerate(best)])
    assert found == 1 if name != "two_tower" else found >= 0.9


def test_new_items_reach_people_who_differ(spark: SparkSession, scorers: dict[str, Scorer]) -> None:
    freshness = np.array([0, 1, 1, 1, 1, 0.01], np.float32)
    new = type(scorers["new"])(freshness, 1)
    empty = sparse.csr_matrix((200, 6), dtype=np.float32)
    scores = new.score(UserBatch(np.array([f"u{i}" for i in range(200)], object), empty, empty))
    firsts = np.bincount(scores.argmax(axis=1), minlength=6)
    assert firsts[0] == 0
    assert firsts[1:5].min() > 20
    assert firsts[5] < 10


@dataclass(frozen=True)
class SameAuthor:
    """A channel of one's own, as docs/extending.md has it: items by the authors that the user chose."""

    similar: sparse.csr_matrix

    def score(self, batch: UserBatch) -> np.ndarray:
        return batch.mask_cold((batch.recent @ self.similar).toarray())


def same_author(history: History, settings: RecallSettings) -> SameAuthor:
    author = history.items["author"].factorize()[0]
    same = sparse.csr_matrix(author[:, None] == author[None])
    return SameAuthor(same.multiply(author[:, None] >= 0).tocsr())


def test_a_channel_of_ones_own(spark: SparkSession, checkerboard: History, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"{__name__}:same_author"
    assert channel_named(name) is same_author
    monkeypatch.setitem(CHANNELS, "same_author", same_author)
    scorer = same_author(checkerboard, SETTINGS)
    test_what_every_channel_promises(spark, checkerboard, {"same_author": scorer}, "same_author")
    for wrong in ("nothing.here:fit", f"{__name__}:nothing", "unknown"):
        with pytest.raises(UserError, match=r"recall\.quota"):
            channel_named(wrong)


def random_choices(users: int = 40, items: int = 12) -> np.ndarray:
    return np.random.default_rng(1).random((users, items)) < 0.3


def history_of(spark: SparkSession, matrix: np.ndarray, settings: RecallSettings) -> History:
    pairs = [(f"u{u}", f"i{i:02}") for u, i in zip(*np.nonzero(matrix), strict=True)]
    none = items_of(spark, 2).where("false")
    return History(chosen(spark, pairs), none, NOW, settings)


@pytest.mark.parametrize("kind", ["cosine", "jaccard"])
def test_item_cf_agrees_with_matrices(spark: SparkSession, kind: str) -> None:
    matrix = random_choices()
    settings = RecallSettings(neighbours=100, shrink=2.0, similarity=kind)
    together = (matrix / np.log1p(np.maximum(matrix.sum(1), 1))[:, None]).T @ matrix
    counts = matrix.sum(0)
    damped = together.diagonal()  # the union of Jaccard is weighted as the intersection is
    norm = np.sqrt(np.outer(counts, counts)) if kind == "cosine" else damped[:, None] + damped[None] - together
    expected = together / (norm + settings.shrink)
    history = history_of(spark, matrix, settings)
    found = item_cf.item_similarity(history, settings).collect()
    assert len(found) == (together > 0).sum() - len(counts)
    for row in found:
        assert row["similarity"] == pytest.approx(expected[row["item"], row["other"]])
    history.unpersist()


def test_jaccard_of_items_with_the_same_users_is_1(spark: SparkSession) -> None:
    """|A ∩ B| / |A ∪ B| is 1 for equal sets, 1/3 where two users of three by weight have one of both; and so of users."""
    matrix = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 0], [0, 0, 0, 1]], bool)
    history = history_of(spark, matrix, RecallSettings())
    rows = item_cf.item_similarity(history, RecallSettings(shrink=0.0, similarity="jaccard")).collect()
    similarity = {(row["item"], row["other"]): row["similarity"] for row in rows}
    one, two = 1 / np.log(2), 1 / np.log(3)  # weights of users with one item and with two
    assert similarity == pytest.approx(
        {(0, 1): 1.0, (1, 0): 1.0, (2, 3): two / (two + 2 * one), (3, 2): two / (two + 2 * one)}
    )
    # Users 0 and 1 chose the same: common = union, so similarity is common / (common + 1).
    batch = batch_for(spark, history, ["u0", "u1", "u2"])
    scores = user_cf.fit(history, RecallSettings(similarity="jaccard")).score(batch)
    common = 2 / np.log(2 + 2)
    assert scores[0, :2].max() == pytest.approx(common / (common + 1))  # u1's newest item is not decayed
    history.unpersist()


def test_ease_agrees_with_the_closed_form(spark: SparkSession) -> None:
    """Steck 2019, equation 8: B = I − P · diag(1 / diag(P))."""
    matrix = random_choices().astype(float)
    settings = RecallSettings(ease_l2=3.0, ease_user_power=0.0, ease_item_power=0.0)
    history = history_of(spark, matrix > 0, settings)
    inverse = np.linalg.inv(matrix.T @ matrix + 3.0 * np.eye(12))
    weights = np.eye(12) - inverse / np.diag(inverse)[None]
    np.testing.assert_allclose(ease.fit(history, settings).weights, weights, atol=1e-5)
    history.unpersist()


def test_user_ease_is_a_ridge_regression_on_the_others(spark: SparkSession) -> None:
    matrix = random_choices()
    settings = RecallSettings(user_ease_l2=2.0)
    history = history_of(spark, matrix, settings)
    users = [f"u{u}" for u in range(len(matrix)) if matrix[u].any()]
    scores = CHANNELS["user_ease"](history, settings).score(batch_for(spark, history, users))
    for row, user in enumerate(users):
        others = np.delete(matrix, int(user[1:]), axis=0).astype(float)
        mine = matrix[int(user[1:])].astype(float)
        weights = np.linalg.solve(others @ others.T + 2.0 * np.eye(len(others)), others @ mine)
        np.testing.assert_allclose(scores[row], weights @ others, atol=1e-4)
    history.unpersist()


def test_als_gives_a_user_the_best_factor_for_the_items(
    spark: SparkSession, checkerboard: History, scorers: dict[str, Scorer]
) -> None:
    """A user's factor minimises Σ c (p − u·y)² + λ (n + items / α) |u|²: no direction is better."""
    factors = scorers["als"]
    batch = batch_for(spark, checkerboard, ["u1", "u2"])
    y, alpha = factors.items, factors.alpha  # type: ignore[attr-defined]
    for row in range(2):
        p = batch.chosen[row].toarray()[0]
        ridge = factors.l2 * (p.sum() + len(y) / alpha)  # type: ignore[attr-defined]
        confidence = 1 + alpha * p
        score = np.asarray(factors.score(batch)[row], float)
        user = np.linalg.lstsq(y, score, rcond=None)[0]
        gradient = -2 * (confidence * (p - score)) @ y + 2 * ridge * user
        assert np.abs(gradient).max() < 1e-3 * max(1.0, float(np.abs(ridge * user).max()))


class Fixed:
    """Scores by hand."""

    def __init__(self, scores: list[float]) -> None:
        self.scores = np.array([scores], np.float32)

    def score(self, batch: UserBatch) -> np.ndarray:
        return np.repeat(self.scores, len(batch.users), axis=0)


def batch_by_hand(users: int, seen: list[tuple[int, int]], items: int = 5) -> UserBatch:
    rows, columns = zip(*seen, strict=True) if seen else ((), ())
    matrix = sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=(users, items))
    return UserBatch(np.array([f"u{i}" for i in range(users)], object), matrix, matrix)


def plan_of(
    quota: dict[str, int], weights: ChannelWeights, scorers: dict[str, Scorer], keep: int | None = None
) -> RecallPlan:
    return RecallPlan(scorers, quota, weights, np.array(list("abcde"), object), keep, 5, 30.0)


def test_merging_keeps_quotas_drops_what_was_seen_and_says_who_proposed(spark: SparkSession) -> None:
    inf = float("inf")
    scorers: dict[str, Scorer] = {"cf": Fixed([9, 8, 7, -inf, -inf]), "hot": Fixed([-inf, 0.9, -inf, 0.8, 0.7])}
    plan = plan_of({"cf": 2, "hot": 2}, ChannelWeights(None, 1), scorers)
    found = propose_batch(batch_by_hand(1, []), plan).set_index("item_id")
    assert set(found.index) == {"a", "b", "d"}  # c and e are beyond the quotas
    assert found.loc["b", "channels"] == "hot+cf"
    assert found.loc["b", "rank"] == 1
    assert found.loc["b", "score"] == pytest.approx(1 / 61 + 1 / 62)
    assert list(found.loc["b", "channel_ranks"]) == [2, 1]
    seen = propose_batch(batch_by_hand(1, [(0, 1)]), plan)
    assert set(seen["item_id"]) == {"a", "c", "d", "e"}
    assert len(propose_batch(batch_by_hand(1, []), plan_of(plan.quota, plan.weights, scorers, keep=1))) == 1


def test_learned_weights_order_and_cold_users_follow_what_is_hot(spark: SparkSession) -> None:
    scorers: dict[str, Scorer] = {"cf": Fixed([5, 4, 3, 2, 1]), "hot": Fixed([1, 2, 3, 4, 5])}
    plan = plan_of({"cf": 5, "hot": 5}, ChannelWeights(np.array([1.0, 0.1]), 1), scorers)
    found = propose_batch(batch_by_hand(2, [(0, 4)]), plan)
    assert found[found["user_id"] == "u0"]["item_id"].tolist() == ["a", "b", "c", "d"]
    assert found[found["user_id"] == "u1"]["item_id"].tolist()[0] == "e"


def test_standardised_scores_have_mean_0_and_what_is_not_proposed_counts_as_the_worst() -> None:
    inf = float("inf")
    scores = standardize(np.array([[1, 2, 3, -inf], [-inf, -inf, -inf, -inf], [2, 2, 2, -inf]], np.float32))
    np.testing.assert_allclose(scores[0, :3], [-1.2247449, 0, 1.2247449], rtol=1e-5)
    assert scores[0, 3] == -1
    assert not scores[1].any()
    assert not scores[2, :3].any()


def test_candidates_on_spark_equal_those_of_one_batch(
    spark: SparkSession, checkerboard: History, scorers: dict[str, Scorer]
) -> None:
    quota = dict.fromkeys(CHANNELS, 3)
    ids = checkerboard.items["item_id"].to_numpy(dtype=object)
    plan = RecallPlan(scorers, quota, ChannelWeights(None, list(CHANNELS).index("hot")), ids, 6, 5, 30.0)
    users = [f"u{u}" for u in range(10)] + ["cold"]
    frame = spark.createDataFrame([(user,) for user in users], "user_id string")
    found = propose(checkerboard, frame, plan).toPandas()
    expected = propose_batch(batch_for(spark, checkerboard, users), plan)
    keys = ["user_id", "rank", "item_id", "channels"]
    left, right = (x.sort_values(keys, ignore_index=True)[keys] for x in (found, expected))
    pd.testing.assert_frame_equal(left, right)
    pairs = set(zip(found["user_id"], found["item_id"], strict=True))
    assert len(pairs) == len(found)
    assert not pairs & set(CHECKERBOARD)
    assert set(found["user_id"]) == set(users)  # cold users get something sensible too
    assert found[found["user_id"] == "cold"]["channels"].str.contains("hot").any()


def test_a_day_without_any_choice_still_proposes_new_items(spark: SparkSession) -> None:
    history = History(chosen(spark, []), items_of(spark, 4), NOW, SETTINGS)
    scorers = {name: fit(history, SETTINGS) for name, fit in CHANNELS.items()}
    ids = history.items["item_id"].to_numpy(dtype=object)
    plan = RecallPlan(scorers, dict.fromkeys(CHANNELS, 3), ChannelWeights(None, 0), ids, 6, 5, 30.0)
    found = propose(history, spark.createDataFrame([("u",)], "user_id string"), plan).toPandas()
    assert found["item_id"].tolist() == ["iz"]
    history.unpersist()
