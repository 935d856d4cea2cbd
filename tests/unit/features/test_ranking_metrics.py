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


def test_map_is_divided_by_all_positives_of_the_user() -> None:
    ranked = pd.DataFrame({"user_id": ["u"], "item_id": ["a"], "rank": [1]})
    truth = pd.DataFrame({"user_id": ["u"] * 4, "item_id": list("abcd")})
    assert ranking_metrics(ranked, truth, [1])["map", 1] == pytest.approx(1 / 4)


def test_a_user_without_a_list_counts_as_nothing() -> None:
    ranked = pd.DataFrame({"user_id": ["u"], "item_id": ["a"], "rank": [1]})
    truth = pd.DataFrame({"user_id": ["u", "v"], "item_id": ["a", "a"]})
    assert ranking_metrics(ranked, truth, [5])["recall", 5] == 0.5
    low, high = ranking_intervals(ranked, truth, 5)["recall"]
    assert 0 <= low < 0.5 < high <= 1
    nothing = ranking_metrics(ranked, truth[:0], [5])
    assert set(nothing.values()) == {0.0}


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
