"""Quality of ranked lists: precision, recall, nDCG, MAP, hit rate and MRR at k, each a mean over users; and of all
lists together: coverage of the items, diversity within lists, novelty.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from training.tasks.metrics import bootstrap_means, interval

METRICS = ("precision", "recall", "ndcg", "map", "hit_rate", "mrr")


def measure_lists(ranked: pd.DataFrame, truth: pd.DataFrame, ks: Sequence[int]) -> dict[tuple[str, int], float]:
    """Means of `per_user` over the users of `truth`: {(metric, k): value}."""
    return {
        (name, k): float(values.mean()) if len(values) else 0.0
        for k in ks
        for name, values in per_user(ranked, truth, k).items()
    }


def per_user(ranked: pd.DataFrame, truth: pd.DataFrame, k: int) -> dict[str, "pd.Series[float]"]:
    """METRICS of each user of `truth` at k; a user without a list counts as 0.

    `ranked` has user_id, item_id, rank (from 1); `truth` has a row per user and positive item. The sum of precisions in
    MAP is divided by all positives of the user, as Spark's MLlib and the benchmark of recommenders do.
    """
    wanted = truth.groupby("user_id").size()
    hits = ranked[ranked["rank"] <= k].merge(truth, on=["user_id", "item_id"]).sort_values(["user_id", "rank"])
    hits["nth"] = hits.groupby("user_id").cumcount() + 1
    gain = 1 / np.log2(hits["rank"] + 1)
    first = (1 / hits["rank"]).where(hits["nth"] == 1, 0.0)
    sums = pd.DataFrame(
        {"user_id": hits["user_id"], "n": 1.0, "gain": gain, "precise": hits["nth"] / hits["rank"], "first": first}
    )
    found = sums.groupby("user_id").sum().reindex(wanted.index, fill_value=0.0)
    # The best possible DCG has its positives at the first places.
    ideal = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(k) + 2))])
    return {
        "precision": found["n"] / k,
        "recall": found["n"] / wanted,
        "ndcg": found["gain"] / ideal[np.minimum(wanted, k)],
        "map": found["precise"] / wanted,
        "hit_rate": (found["n"] > 0).astype(float),
        "mrr": found["first"],
    }


def intervals(
    ranked: pd.DataFrame, truth: pd.DataFrame, k: int, *, draws: int = 1000
) -> dict[str, tuple[float, float]]:
    """95 % intervals of METRICS at k, by bootstrap over users."""
    return {
        name: interval(bootstrap_means(values, np.ones(len(values)), draws=draws))
        for name, values in per_user(ranked, truth, k).items()
    }


def beyond_accuracy(
    ranked: pd.DataFrame, k: int, popularity: Mapping[str, float], category: Mapping[str, str | None]
) -> dict[str, float]:
    """coverage, diversity and novelty of the first k of all lists.

    Coverage: share of the items (keys of `popularity`, with their positives so far) that any list has. Diversity:
    chance that two items of a list are of different categories. Novelty: mean −log2 of the share of positives that an
    item has.
    """
    top = ranked[ranked["rank"] <= k]
    if top.empty or not popularity:
        return {"coverage": 0.0, "diversity": 0.0, "novelty": 0.0}
    per_list = pd.DataFrame({"user_id": top["user_id"], "category": top["item_id"].map(category).fillna("")})
    length = per_list.groupby("user_id").size()
    same = per_list.groupby(["user_id", "category"]).size()
    pairs = (length * (length - 1)).where(length > 1)
    alike = (same * (same - 1)).groupby("user_id").sum() / pairs
    counts = pd.Series(popularity, dtype=float) + 1  # an item that nobody chose yet is novel, not infinitely so
    share = counts / counts.sum()
    return {
        "coverage": top["item_id"].nunique() / len(popularity),
        "diversity": float((1 - alike.dropna()).mean()) if pairs.notna().any() else 0.0,
        "novelty": float(-np.log2(top["item_id"].map(share).fillna(share.min())).mean()),
    }
