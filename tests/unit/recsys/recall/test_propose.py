"""Merging the channels' lists into candidates, on scores by hand and against a merge of dense matrices."""

import io
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from scipy import sparse

from recsys.recall import propose
from recsys.recall.channels import Scorer
from recsys.recall.channels.dense import DenseLists
from recsys.recall.history import UserBatch
from recsys.recall.merge import ChannelWeights
from recsys.recall.propose import RecallPlan, channel_labels, keep_best, propose_batch, propose_on_driver, unite_lists

INF = float("inf")


@dataclass(frozen=True)
class Fixed:
    """The same scores for everybody, by hand."""

    scores: list[float]

    def score(self, batch: UserBatch) -> NDArray[np.float32]:
        return np.repeat(np.array([self.scores], np.float32), len(batch.users), axis=0)


@dataclass(frozen=True)
class Table:
    """Scores by user, whose number is in their id."""

    scores: NDArray[np.float32]

    def score(self, batch: UserBatch) -> NDArray[np.float32]:
        return self.scores[[int(user[1:]) for user in batch.users]]


def batch_by_hand(users: int, chosen: list[tuple[int, int]], items: int = 5) -> UserBatch:
    rows, columns = zip(*chosen, strict=True) if chosen else ((), ())
    matrix = sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=(users, items))
    return UserBatch(np.array([f"u{i:03}" for i in range(users)], object), matrix, matrix)


def plan_of(
    quota: dict[str, int], weights: ChannelWeights, scores: dict[str, list[float]], keep: int | None = None
) -> RecallPlan:
    scorers: dict[str, Scorer] = {name: DenseLists(Fixed(values)) for name, values in scores.items()}
    return RecallPlan(scorers, quota, weights, np.array(list("abcde"), object), keep, 5, 30.0)


def test_merging_keeps_quotas_drops_what_was_chosen_and_says_who_proposed() -> None:
    scores = {"cf": [9, 8, 7, -INF, -INF], "hot": [-INF, 0.9, -INF, 0.8, 0.7]}
    plan = plan_of({"cf": 2, "hot": 2}, ChannelWeights(None, 1), scores)
    candidates = propose_batch(batch_by_hand(1, []), plan).to_pandas().set_index("item_id")
    assert set(candidates.index) == {"a", "b", "d"}  # c and e are beyond the quotas
    assert candidates.loc["b", "channels"] == "hot+cf"
    assert candidates.loc["b", "rank"] == 1
    assert candidates.loc["b", "score"] == pytest.approx(1 / 61 + 1 / 62)
    assert list(candidates.loc["b", "channel_ranks"]) == [2, 1]
    without_b = propose_batch(batch_by_hand(1, [(0, 1)]), plan).to_pandas()
    assert set(without_b["item_id"]) == {"a", "c", "d", "e"}
    assert len(propose_batch(batch_by_hand(1, []), replace(plan, max_candidates=1))) == 1


def test_fitted_weights_order_and_cold_users_follow_what_is_hot() -> None:
    scores: dict[str, list[float]] = {"cf": [5, 4, 3, 2, 1], "hot": [1, 2, 3, 4, 5]}
    plan = plan_of({"cf": 5, "hot": 5}, ChannelWeights(np.array([1.0, 0.1]), 1), scores)
    candidates = propose_batch(batch_by_hand(2, [(0, 4)]), plan).to_pandas()
    assert candidates[candidates["user_id"] == "u000"]["item_id"].tolist() == ["a", "b", "c", "d"]
    assert candidates[candidates["user_id"] == "u001"]["item_id"].tolist()[0] == "e"


def test_standardised_scores_have_mean_0_and_what_is_not_proposed_counts_as_poor() -> None:
    table = Table(np.array([[1, 2, 3, -INF], [-INF, np.nan, -INF, -INF], [2, 2, 2, -INF]], np.float32))
    top = DenseLists(table).top_items(batch_by_hand(3, [], items=4), 4)
    pairs = np.tile(np.arange(4, dtype=np.int32), (3, 1))
    scores = top.standardize(top.score_pairs(pairs))
    np.testing.assert_allclose(scores[0, :3], [-1.2247449, 0, 1.2247449], rtol=1e-5)
    assert scores[0, 3] == -1
    assert not scores[1].any()
    assert not scores[2, :3].any()


def test_an_item_of_several_lists_is_one_candidate_with_its_rank_in_each() -> None:
    lists = [np.array([[4, 2, 0], [-1, -1, -1]], np.int32), np.array([[2, 3, 4], [1, -1, -1]], np.int32)]
    items, ranks = unite_lists(lists, np.array([2, 1]), 5)
    np.testing.assert_array_equal(items, [[2, 4], [1, -1]])
    np.testing.assert_array_equal(ranks, [[[2, 1], [0, 0]], [[1, 3], [1, 0]]])  # 4 is beyond the second's quota


@pytest.mark.parametrize("channels", [3, 20], ids=["few channels", "more than a number of 64 bits can encode"])
def test_labels_name_the_proposing_channels_best_rank_first(channels: int) -> None:
    names = [f"c{n}" for n in range(channels)]
    rng = np.random.default_rng(1)
    ranks = rng.integers(0, 4, (50, channels)).astype(np.int32)
    is_proposed = (ranks > 0) & (ranks < 3)
    expected = [
        "+".join(names[c] for c in sorted(np.flatnonzero(proposed), key=lambda c, row=row: (row[c], c)))
        for row, proposed in zip(ranks, is_proposed, strict=True)
    ]
    assert channel_labels(names, ranks, is_proposed).to_pylist() == expected


def random_plan(weights: ChannelWeights, keep: int | None, users: int = 40, items: int = 30) -> RecallPlan:
    """Scores of few values, so that there are many ties; a third of them none."""
    rng = np.random.default_rng(4)
    tables = [np.where(rng.random((users, items)) < 0.3, -INF, rng.integers(0, 6, (users, items))) for _ in range(3)]
    scorers: dict[str, Scorer] = {f"c{n}": DenseLists(Table(t.astype(np.float32))) for n, t in enumerate(tables)}
    ids = np.array([f"i{n:02}" for n in range(items)], object)
    return RecallPlan(scorers, {"c0": 4, "c1": 6, "c2": 2}, weights, ids, keep, 8, 30.0)


def random_histories(users: int = 40, items: int = 30) -> UserBatch:
    matrix = np.random.default_rng(5).random((users, items)) < 0.2
    matrix[3], matrix[4] = True, False
    return batch_by_hand(users, list(zip(*np.nonzero(matrix), strict=True)), items)


def dense_candidates(batch: UserBatch, plan: RecallPlan) -> pd.DataFrame:
    """The definition: scores of all items standardised and summed, of those within a quota the best."""
    raw = np.stack([scorer.scorer.score(batch) for scorer in plan.scorers.values()])  # type: ignore[attr-defined]
    raw = np.where(batch.chosen.toarray()[None] > 0, -INF, raw).astype(float)
    finite = np.isfinite(raw)
    count = np.maximum(finite.sum(2, keepdims=True), 1)
    mean = np.where(finite, raw, 0).sum(2, keepdims=True) / count
    deviation = np.sqrt((np.where(finite, raw - mean, 0) ** 2).sum(2, keepdims=True) / count)
    scores = np.where(finite, (np.where(finite, raw, 0) - mean) / np.maximum(deviation, 1e-9), -1.0)
    scores = np.where(finite.any(2, keepdims=True), scores, 0.0)
    ranks = np.argsort(np.argsort(-raw, axis=2, kind="stable"), axis=2, kind="stable") + 1
    ranks = np.where(finite & (ranks <= plan.max_rank), ranks, 0)
    merged = plan.weights.merge(scores.astype(np.float32), ranks, batch.is_cold)
    quota = np.array(list(plan.quota.values()))[:, None, None]
    merged = np.where(((ranks > 0) & (ranks <= quota)).any(0), merged, -INF)
    rows = [
        (batch.users[user], plan.item_ids[item], merged[user, item], rank + 1)
        for user in range(len(merged))
        for rank, item in enumerate(np.argsort(-merged[user], kind="stable")[: plan.max_candidates])
        if merged[user, item] > -INF
    ]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "score", "rank"])


@pytest.mark.parametrize("keep", [5, None])
@pytest.mark.parametrize("values", [None, np.array([0.5, -0.2, 0.3])], ids=["ranks", "weights"])
def test_candidates_are_those_of_a_dense_merge(values: NDArray[np.float64] | None, keep: int | None) -> None:
    plan, batch = random_plan(ChannelWeights(values, 1), keep), random_histories()
    candidates = propose_batch(batch, plan).to_pandas()
    expected = dense_candidates(batch, plan)
    # To six digits: scores that are equal in exact arithmetic are items of one place.
    frames = [
        x.assign(score=x["score"].round(6)).sort_values(["user_id", "score", "item_id"]) for x in (candidates, expected)
    ]
    pd.testing.assert_frame_equal(*[x[["user_id", "item_id", "score"]].reset_index(drop=True) for x in frames])
    assert "u003" not in set(candidates["user_id"])  # who chose everything


@pytest.mark.parametrize("size", [1, 7, 100])
def test_candidates_do_not_depend_on_the_batches(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, histories = random_plan(ChannelWeights(None, 1), 5), random_histories()
    users = np.append(histories.users, "u000").astype(object)
    expected = propose_batch(histories.take(np.append(np.arange(40), 0), users), plan).to_pandas()
    monkeypatch.setattr(propose, "BATCH_USERS", size)
    file = io.BytesIO()
    propose.write_proposals(propose_on_driver(histories, users, plan), file)
    pd.testing.assert_frame_equal(pq.read_table(file).to_pandas(), expected)


def test_reserved_items_stay_whatever_their_merged_score() -> None:
    merged = np.array([[0.9, 0.8, 0.1, -np.inf, 0.7], [0.1, 0.2, 0.3, 0.4, 0.5]])
    is_reserved = np.array([[False, False, True, True, False], [False] * 5])
    kept = keep_best(merged, is_reserved, 2)
    assert np.flatnonzero(kept[0] > -np.inf).tolist() == [0, 2]  # nothing proposed the fourth one
    assert np.flatnonzero(kept[1] > -np.inf).tolist() == [3, 4]
    assert kept[0, 2] == 0.1
