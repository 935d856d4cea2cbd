import math

import pandas as pd
import pytest

from recsys.lists import measure_lists
from recsys.rank import ordered


def test_recall_ndcg_and_map_of_a_known_list() -> None:
    ranked = pd.DataFrame({"user_id": ["u"] * 4, "item_id": list("abcd"), "rank": [1, 2, 3, 4]})
    truth = pd.DataFrame({"user_id": ["u"] * 3, "item_id": ["a", "c", "z"]})
    found = measure_lists(ranked, truth, [1, 3])
    assert found["recall", 1] == pytest.approx(1 / 3)
    assert found["recall", 3] == pytest.approx(2 / 3)
    ideal = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    assert found["ndcg", 3] == pytest.approx((1 + 1 / math.log2(4)) / ideal)
    assert found["map", 3] == pytest.approx((1 / 1 + 2 / 3) / 3)


def test_a_user_without_a_list_counts_as_nothing() -> None:
    ranked = pd.DataFrame({"user_id": ["u"], "item_id": ["a"], "rank": [1]})
    truth = pd.DataFrame({"user_id": ["u", "v"], "item_id": ["a", "a"]})
    assert measure_lists(ranked, truth, [5])["recall", 5] == 0.5


def test_fine_ranks_only_what_coarse_let_pass() -> None:
    rows = pd.DataFrame(
        {
            "user_id": ["u", "u", "u", "v"],
            "item_id": ["a", "b", "c", "a"],
            "merged": [0.3, 0.2, 0.1, 0.5],
            "coarse": [0.1, 0.9, 0.8, 0.2],
            "fine": [0.9, 0.1, 0.5, 0.3],
        }
    )
    fine = ordered(rows, "fine", keep=2)
    assert fine[fine["user_id"] == "u"].sort_values("rank")["item_id"].tolist() == ["c", "b"]
    merged = ordered(rows, "merged", keep=2)
    assert merged[merged["user_id"] == "u"].sort_values("rank")["item_id"].tolist() == ["a", "b", "c"]
    assert ordered(rows, "blend", keep=2)["rank"].max() == 3
