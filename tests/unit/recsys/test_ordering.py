"""What orders lists: learned weights, calibration, diversity and freshness."""

from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from conf import load
from conf.runs import read_jsonl, start_run
from features.metrics.classification import auc, calibration_curve, calibration_error, log_loss
from recsys import calibration
from recsys.blend import weights as blend
from recsys.blend.prices import RulePrices, active_rules, published_lists
from recsys.blend.rerank import rerank
from recsys.coordinate_ascent import fit_weights, ndcg_objective
from recsys.settings import RecommendSettings


def made_candidates(users: int = 200, each: int = 30) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores (rows, 3): the first helps much, the second a little, the third is noise."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(users * each, 3))
    label = (2 * scores[:, 0] + scores[:, 1] + rng.normal(size=users * each) > 3.5).astype(int)
    return scores, label, np.repeat(np.arange(users), each)


def test_coordinate_ascent_finds_what_helps_and_is_no_worse_than_the_best_step() -> None:
    scores, label, user = made_candidates()
    weights = fit_weights(scores, label, user, 10)
    assert weights is not None
    assert weights[0] > weights[1] > abs(weights[2])
    assert np.array_equal(weights, fit_weights(scores, label, user, 10))  # nothing is random
    measure = ndcg_objective(scores, label, user, 10)
    assert measure(weights) > max(measure(row) for row in np.eye(3))
    # Rows may come in any order.
    shuffled = np.random.default_rng(1).permutation(len(label))
    np.testing.assert_allclose(
        ndcg_objective(scores[shuffled], label[shuffled], user[shuffled], 10)(weights), measure(weights)
    )


def test_too_few_positives_teach_nothing() -> None:
    scores, label, user = made_candidates(users=3)
    assert fit_weights(scores, np.zeros_like(label), user, 10) is None
    frame = pd.DataFrame({"user_id": user, "merged": scores[:, 0], "fine": 0.5, "label": 0})
    assert blend.fit(frame, ["merged", "fine"], 10).weights == {"merged": 1.0, "fine": 1.0}


def test_the_blend_looks_at_a_users_own_candidates() -> None:
    """A user whose scores are all high has no better items for that."""
    frame = pd.DataFrame({"user_id": ["u", "u", "v", "v"], "merged": [1.0, 2.0, 100.0, 300.0]})
    np.testing.assert_allclose(blend.standardize_within_users(frame, ["merged"])[:, 0], [-1, 1, -1, 1])


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_calibration_makes_deciles_agree_and_keeps_the_order(kind: str) -> None:
    rng = np.random.default_rng(3)
    truth = 1 / (1 + np.exp(-rng.normal(-2, 1, 100_000)))
    label = rng.random(100_000) < truth
    skewed = truth**2 / (truth**2 + (1 - truth) ** 2)  # twice the logit: too sure of itself
    curve = calibration.fit(kind, label[:50_000], skewed[:50_000])
    held_out, raw, score = label[50_000:], skewed[50_000:], curve(skewed[50_000:])
    assert calibration_error(held_out, raw) > 0.03
    assert calibration_error(held_out, score) < 0.01
    assert log_loss(held_out, score) < log_loss(held_out, raw)
    assert auc(held_out, score) == pytest.approx(auc(held_out, raw), abs=2e-3)
    deciles = calibration_curve(held_out, score)
    assert np.abs(deciles[:, 0] - deciles[:, 1]).max() < 0.03


def test_without_both_classes_scores_stay_as_they_are() -> None:
    curve = calibration.fit("platt", np.zeros(1000), np.linspace(0.1, 0.9, 1000))
    np.testing.assert_allclose(curve([0.2, 0.7]), [0.2, 0.7])


def candidates_of_one_topic() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "user_id": "u",
            "item_id": list("abcdef"),
            "rank": range(1, 7),
            "order": [6.0, 5.9, 5.8, 5.7, 1.0, 0.0],
            "category": ["x", "x", "x", "y", "y", "z"],
            "author": ["p", "q", None, "q", "r", "p"],
            "is_fresh": [False] * 5 + [True],
        }
    )


def test_without_rules_the_order_stays() -> None:
    settings = RecommendSettings(length=4, diversity=0, fresh_share=0)
    assert rerank(candidates_of_one_topic(), settings)["item_id"].tolist() == list("abcd")


def test_diversity_brings_another_topic_up_and_keeps_the_best_on_top() -> None:
    settings = RecommendSettings(length=3, diversity=0.3, fresh_share=0)
    lists = rerank(candidates_of_one_topic(), settings)
    assert lists["item_id"].tolist() == ["a", "d", "b"]
    assert lists["rank"].tolist() == [1, 2, 3]


def test_fresh_items_get_their_share_and_no_more_than_there_are() -> None:
    settings = RecommendSettings(length=3, diversity=0, fresh_share=0.6)
    assert rerank(candidates_of_one_topic(), settings)["item_id"].tolist() == ["a", "b", "f"]
    assert len(rerank(candidates_of_one_topic()[:0], settings)) == 0


def items_by(**rules: Any) -> list[str]:
    return list(
        rerank(candidates_of_one_topic(), RecommendSettings(**{"length": 4, "fresh_share": 0, **rules}))["item_id"]
    )


def test_a_category_gets_no_more_than_its_cap_and_lists_may_end() -> None:
    assert items_by(max_per_category=2) == ["a", "b", "d", "e"]
    assert items_by(max_per_category=1) == ["a", "d", "f"]
    candidates = candidates_of_one_topic().assign(category=None)  # no category is like another
    settings = RecommendSettings(length=4, fresh_share=0, max_per_category=1)
    assert rerank(candidates, settings)["item_id"].tolist() == list("abcd")


def test_fresh_items_need_room_under_the_cap() -> None:
    """The one fresh item is the third of its category: a cap of 2 rules it out, and the list is filled all the same."""
    candidates = candidates_of_one_topic().assign(category=list("xxyyzx"))
    settings = RecommendSettings(length=4, fresh_share=0.25, max_per_category=2)
    assert rerank(candidates, settings)["item_id"].tolist() == list("abcd")


def test_boosts_are_added_to_the_relevance() -> None:
    """Relevance is order / 6: 1, .983, .967, .95, .167 and 0."""
    assert items_by(boosts={"author": {"q": 0.04}}) == ["b", "a", "d", "c"]  # 1.023, 1, .99, .967
    assert items_by(boosts={"category": {"x": -0.5}}) == ["d", "a", "b", "c"]
    assert items_by(boosts={"category": {"x": -0.03}, "author": {"p": 0.04}}) == ["a", "b", "d", "c"]
    assert items_by(fresh_boost=0.96) == ["a", "b", "c", "f"]


def test_excluded_items_are_in_no_list_and_leave_no_gap() -> None:
    assert items_by(exclude_items=("a", "c", "unknown")) == ["b", "d", "e", "f"]
    lists = rerank(candidates_of_one_topic(), RecommendSettings(exclude_items=("a",)))
    assert lists["rank"].tolist() == [1, 2, 3, 4, 5]


def test_rules_that_change_lists_are_named() -> None:
    assert active_rules(RecommendSettings()) == ["fresh_share"]
    rules = RecommendSettings(fresh_share=0, boosts={"author": {"p": 0.1}}, max_per_category=3)
    assert active_rules(rules) == ["boosts", "max_per_category"]
    made: list[RecommendSettings] = []

    def make(settings: RecommendSettings) -> pd.DataFrame:
        made.append(settings)
        return candidates_of_one_topic()

    without = ["published without boosts", "published without max_per_category"]
    assert list(published_lists(rules, make)) == ["published", *without]
    boosts = {"author": {"p": 0.1}}
    assert [(one.boosts, one.max_per_category) for one in made] == [(boosts, 3), ({}, 3), (boosts, 0)]


def test_the_price_of_a_rule_is_what_lists_earn_without_it(tmp_path: Path) -> None:
    """Relevant is b, which is first, and second with the boost of a: that costs 1 − 1 / log2(3)."""
    candidates = candidates_of_one_topic()[:3].assign(order=[0.9, 1.0, 0.0], rank=[2, 1, 3])
    settings = RecommendSettings(length=2, fresh_share=0, boosts={"author": {"p": 0.2}})
    truth = pd.DataFrame({"user_id": ["u"], "item_id": ["b"]})
    config = load(overrides=[f"paths.home={tmp_path}"], environment={})
    candidates["is_positive"] = candidates["item_id"] == "b"
    prices, none = RulePrices(settings, None, 2), RulePrices(RecommendSettings(fresh_share=0), None, 2)
    with start_run(config, "recommend", date(2026, 1, 7)) as run:
        prices.add(published_lists(settings, partial(rerank, candidates)))
        none.add({"published": candidates})
        report, nothing = prices.log_metrics(truth, run), none.log_metrics(truth, run)
    assert report == {"boosts_price_ndcg@2": pytest.approx(1 - 1 / np.log2(3))}
    assert nothing == {}
    (row,) = read_jsonl(run.folder / "metrics.jsonl")
    assert (row["model"], row["metric"], row["k"]) == ("boosts", "rule_price_ndcg", 2)
