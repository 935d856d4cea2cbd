import pandas as pd

from recsys.blend.lists import order_candidates
from recsys.blend.weights import Blend


def test_later_rankers_get_the_best_of_coarse_and_of_recall() -> None:
    rows = pd.DataFrame(
        {
            "user_id": ["u"] * 4 + ["v"],
            "item_id": ["a", "b", "c", "d", "a"],
            "merged": [0.4, 0.3, 0.2, 0.1, 0.5],
            "coarse": [0.1, 0.9, 0.2, 0.3, 0.2],
            "fine": [0.5, 0.1, 0.9, 0.8, 0.3],
        }
    )
    weights = Blend({"merged": 0.0, "coarse": 0.0, "fine": 1.0})
    fine = order_candidates(rows, "fine", weights, keep=1)
    assert fine[fine["user_id"] == "u"].sort_values("rank")["item_id"].tolist() == ["a", "b"]
    merged = order_candidates(rows, "merged", weights, keep=1)
    assert merged[merged["user_id"] == "u"].sort_values("rank")["item_id"].tolist() == ["a", "b", "c", "d"]
    blended = order_candidates(rows, "blend", weights, keep=9)
    assert blended[blended["user_id"] == "u"].sort_values("rank")["item_id"].tolist() == ["c", "d", "a", "b"]
