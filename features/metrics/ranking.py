"""Metrics of ranked lists at k: accuracy as means over users, and diversity of all lists together.

On data frames of one machine; the distributed forms are in `features/metrics/spark.py`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from features.metrics.bootstrap import bootstrap_means, percentile_interval

RANKING_METRICS = ("precision", "recall", "ndcg", "map", "hit_rate", "mrr")


def clip_rounding(share: float) -> float:
    """At most 1 for a share that a sum of floating-point numbers left a little above it.

    Nine users with a recall of 1/9 each and so on: 1.0000000000000002. A larger excess stays, for it is an error, such
    as a pair twice among the positives.
    """
    if share < 1 + 1e-9:
        return min(share, 1.0)
    return share


def ranking_metrics(ranked: pd.DataFrame, truth: pd.DataFrame, ks: Sequence[int]) -> dict[tuple[str, int], float]:
    """{(metric, k): mean of `user_ranking_metrics` over the users of `truth`}; 0 without users."""
    by_k = {k: user_ranking_metrics(ranked, truth, k) for k in ks}
    return {
        (name, k): float(values.mean()) if len(values) else 0.0
        for k, metrics in by_k.items()
        for name, values in metrics.items()
    }


def user_ranking_metrics(ranked: pd.DataFrame, truth: pd.DataFrame, k: int) -> dict[str, "pd.Series[float]"]:
    """RANKING_METRICS at k of each user of `truth`; a user without a list counts as 0.

    The sum of precisions in MAP is divided by all positives of the user, as in Spark's MLlib and Microsoft's
    recommenders, not by min(k, positives). One join and one group-by for all users: scikit-learn's `ndcg_score` wants
    a dense matrix of users and items.

    Args:
        ranked: user_id, item_id, rank (from 1).
        truth: one row per user and positive item.
        k: length that lists are cut to.

    Returns:
        {metric: values by user_id}.
    """
    num_positives = truth.groupby("user_id").size()
    # One row per listed positive, best rank first within a user.
    hits = ranked[ranked["rank"] <= k].merge(truth, on=["user_id", "item_id"]).sort_values(["user_id", "rank"])
    hits["hit_number"] = hits.groupby("user_id").cumcount() + 1
    sums = (
        pd.DataFrame(
            {
                "user_id": hits["user_id"],
                "hits": 1.0,
                "dcg": 1 / np.log2(hits["rank"] + 1),
                "precisions": hits["hit_number"] / hits["rank"],
                "reciprocal_rank": (1 / hits["rank"]).where(hits["hit_number"] == 1, 0.0),
            }
        )
        .groupby("user_id")
        .sum()
        # Users whose list has no positive, or who have no list.
        .reindex(num_positives.index, fill_value=0.0)
    )
    # The ideal list has its positives at the first ranks: ideal_dcg[n] is the DCG of n of them.
    ideal_dcg = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(k) + 2))])
    return {
        "precision": sums["hits"] / k,
        "recall": sums["hits"] / num_positives,
        # Both are sums of the same numbers, in another order.
        "ndcg": (sums["dcg"] / ideal_dcg[np.minimum(num_positives, k)]).map(clip_rounding),
        "map": sums["precisions"] / num_positives,
        "hit_rate": (sums["hits"] > 0).astype(float),
        "mrr": sums["reciprocal_rank"],
    }


def ranking_intervals(
    ranked: pd.DataFrame, truth: pd.DataFrame, k: int, *, num_samples: int = 1000
) -> dict[str, tuple[float, float]]:
    """{metric: 95 % interval of its mean at k}, by bootstrap over the users of `truth`."""
    by_user = pd.DataFrame(user_ranking_metrics(ranked, truth, k))
    # One pass: sampling the users takes the time, not the sums.
    means = bootstrap_means(by_user.to_numpy(), np.ones(len(by_user)), num_samples=num_samples)
    return {name: percentile_interval(means[:, column]) for column, name in enumerate(by_user)}


def diversity_metrics(
    ranked: pd.DataFrame, k: int, popularity: Mapping[str, float], category: Mapping[str, str | None]
) -> dict[str, float]:
    """coverage, diversity and novelty of the first k of all lists (Castells et al. 2015); all 0 without lists.

    Coverage is the share of the items that any list has; diversity the chance that two items of a list are of
    different categories; novelty the mean −log2 of an item's share of the positives so far, in bits.

    Args:
        ranked: user_id, item_id, rank (from 1).
        k: length that lists are cut to.
        popularity: positives so far of every item that could be listed.
        category: of each item.
    """
    counts = DiversityCounts(k, popularity, category)
    counts.add(ranked)
    return counts.metrics()


class DiversityCounts:
    """`diversity_metrics` of lists that are added some users at a time; the same for any order and parts of them.

    Whole numbers by item and by length of list are all that it holds: sums of them have no rounding.
    """

    def __init__(self, k: int, popularity: Mapping[str, float], category: Mapping[str, str | None]) -> None:
        """Count lists of the length k; `popularity` and `category` as in `diversity_metrics`."""
        counts = pd.Series(popularity, dtype=float) + 1  # an item that nobody chose yet is novel, not infinitely so
        share = counts / counts.sum()
        self._k, self._num_items = k, len(popularity)
        self._items = pd.Index(list(popularity), dtype=object)
        # Of an item that could not be listed: the last.
        self._bits = -np.log2(np.append(share.to_numpy(), share.min()))
        self._listed = np.zeros(len(self._items) + 1, np.int64)
        self._others: set[str] = set()
        self._category, self._pairs = category, Counter[tuple[int, int]]()

    def add(self, ranked: pd.DataFrame) -> None:
        """Add the lists of users none of whose rows were added before: user_id, item_id, rank (from 1)."""
        top = ranked[ranked["rank"] <= self._k]
        if top.empty or not self._num_items:
            return
        item = self._items.get_indexer(top["item_id"])
        self._listed += np.bincount(np.where(item < 0, self._num_items, item), minlength=len(self._listed))
        self._others.update(top["item_id"].to_numpy()[item < 0])
        user, _ = top["user_id"].factorize()
        category, categories = top["item_id"].map(self._category).fillna("").factorize()
        cell, count = np.unique(user * len(categories) + category, return_counts=True)
        # Ordered pairs of equal categories of each user's list.
        same = np.bincount(cell // len(categories), count * (count - 1)).astype(np.int64)
        self._pairs.update(zip(np.bincount(user).tolist(), same.tolist(), strict=True))

    def metrics(self) -> dict[str, float]:
        """coverage, diversity and novelty of all lists that were added; all 0 without lists."""
        num_listed = int(self._listed.sum())
        if not num_listed:
            return {"coverage": 0.0, "diversity": 0.0, "novelty": 0.0}
        # A list of one item has no pair.
        lists = {key: number for key, number in sorted(self._pairs.items()) if key[0] > 1}
        different = sum(number * (1 - same / (length * (length - 1))) for (length, same), number in lists.items())
        return {
            "coverage": (int((self._listed[:-1] > 0).sum()) + len(self._others)) / self._num_items,
            "diversity": different / sum(lists.values()) if lists else 0.0,
            "novelty": float(self._listed @ self._bits) / num_listed,
        }
