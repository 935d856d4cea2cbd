import math

import pandas as pd
import pytest

from features.metrics.ranking import clip_rounding, diversity_metrics, ranking_intervals, ranking_metrics


def test_metrics_of_a_known_list() -> None:
    ranked = pd.DataFrame({"user_id": ["u"] * 4, "item_id": list("abcd"), "rank": [1, 2, 3, 4]})
    truth = pd.DataFrame({"user_id": ["u"] * 3, "item_id": ["a", "c", "z"]})
    found = ranking_metrics(ranked, truth, [1, 3])
    assert found["recall", 1] == pytest.approx(1 / 3)
    assert found["recall", 3] == pytest.approx(2 / 3)
    ideal = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    assert found["ndcg", 3] == pytest.approx((1 + 1 / math.log2(4)) / ideal)
    assert found["map", 3] == pytest.approx((1 / 1 + 2 / 3) / 3)
    assert found["precision", 3] == pytest.approx(2 / 3)
    assert (found["mrr", 3], found["hit_rate", 3]) == (1, 1)


def test_what_comes_first_counts_from_its_rank() -> None:
    ranked = pd.DataFrame({"user_id": ["u"] * 3, "item_id": list("abc"), "rank": [1, 2, 3]})
    truth = pd.DataFrame({"user_id": ["u"] * 2, "item_id": ["c", "b"]})
    metrics = ranking_metrics(ranked, truth, [3])
    assert (metrics["mrr", 3], metrics["map", 3]) == pytest.approx((1 / 2, (1 / 2 + 2 / 3) / 2))
    assert set(ranking_metrics(ranked, truth, [1]).values()) == {0.0}


def test_map_is_divided_by_all_positives_of_the_user() -> None:
    ranked = pd.DataFrame({"user_id": ["u"], "item_id": ["a"], "rank": [1]})
    truth = pd.DataFrame({"user_id": ["u"] * 4, "item_id": list("abcd")})
    assert ranking_metrics(ranked, truth, [1])["map", 1] == pytest.approx(1 / 4)


def test_a_user_without_a_list_counts_as_nothing() -> None:
    ranked = pd.DataFrame({"user_id": ["u"], "item_id": ["a"], "rank": [1]})
    truth = pd.DataFrame({"user_id": ["u", "v"], "item_id": ["a", "a"]})
    metrics = ranking_metrics(ranked, truth, [5])
    assert {name: value for (name, _), value in metrics.items() if name != "precision"} == dict.fromkeys(
        ("recall", "ndcg", "map", "hit_rate", "mrr"), 0.5
    )
    assert metrics["precision", 5] == pytest.approx(0.1)
    low, high = ranking_intervals(ranked, truth, 5)["recall"]
    assert 0 <= low < 0.5 < high <= 1
    low, high = ranking_intervals(ranked, truth, 5, num_samples=1)["recall"]
    assert low == high
    nothing = ranking_metrics(ranked, truth[:0], [5])
    assert set(nothing.values()) == {0.0}


def test_columns_that_both_frames_have_besides_the_keys_are_no_part_of_a_match() -> None:
    ranked = pd.DataFrame({"user_id": ["u"], "item_id": ["a"], "rank": [1], "day": [2]})
    truth = pd.DataFrame({"user_id": ["u"], "item_id": ["a"], "day": [1]})
    assert ranking_metrics(ranked, truth, [1])["recall", 1] == 1


def test_diversity_is_the_chance_that_two_items_of_a_list_differ() -> None:
    ranked = pd.DataFrame(
        {"user_id": ["u"] * 3 + ["v"] * 3 + ["w"], "item_id": list("abcadea"), "rank": [1, 2, 3] * 2 + [1]}
    )
    category = {"a": "x", "b": "x", "c": "y", "d": None, "e": None}
    metrics = diversity_metrics(ranked, 3, dict.fromkeys("abcdef", 1.0), category)
    assert metrics["diversity"] == pytest.approx(2 / 3)  # two of three pairs in both lists; a list of one has no pair
    assert metrics["coverage"] == pytest.approx(5 / 6)
    assert diversity_metrics(ranked, 1, {"a": 1.0}, category) == {"coverage": 1.0, "diversity": 0.0, "novelty": 0.0}
    # An item that is not known to be popular counts as the least popular one.
    novelty = diversity_metrics(ranked[ranked["user_id"] == "w"], 1, {"b": 5.0, "c": 1.0}, category)["novelty"]
    assert novelty == pytest.approx(-math.log2(2 / 8))


def test_a_list_that_is_right_throughout_scores_1_and_not_a_little_more() -> None:
    """`etl results` refused a recall of 1.0000000000000004; what exceeds 1 by more than rounding is an error."""
    for length in range(1, 60):
        items = [f"i{i}" for i in range(length)]
        ranked = pd.DataFrame({"user_id": "u", "item_id": items, "rank": range(1, length + 1)})
        metrics = ranking_metrics(ranked, ranked[["user_id", "item_id"]], [length])
        assert max(metrics.values()) == 1.0
        assert min(metrics.values()) == pytest.approx(1.0, abs=1e-12)
    assert clip_rounding(sum(9 * [1 / 9])) == 1.0 < sum(9 * [1 / 9])
    assert clip_rounding(0.7) == 0.7
    assert clip_rounding(1.5) == 1.5


def test_coverage_diversity_and_novelty() -> None:
    ranked = pd.DataFrame({"user_id": ["u", "u", "v", "v"], "item_id": ["a", "b", "a", "c"], "rank": [1, 2, 1, 2]})
    popularity = {"a": 7.0, "b": 3.0, "c": 1.0, "d": 1.0}
    found = diversity_metrics(ranked, 2, popularity, {"a": "x", "b": "x", "c": "y", "d": None})
    assert found["coverage"] == 0.75
    assert found["diversity"] == 0.5  # one list of one topic, one of two
    novelty = [-math.log2(n / 16) for n in (8, 4, 8, 2)]
    assert found["novelty"] == pytest.approx(sum(novelty) / 4)
    assert diversity_metrics(ranked[:0], 2, popularity, {}) == {"coverage": 0.0, "diversity": 0.0, "novelty": 0.0}
