"""Quality of ranked lists: recall@k, nDCG@k and MAP@k, each a mean over users."""

from collections.abc import Sequence

import numpy as np
import pandas as pd


def measure_lists(ranked: pd.DataFrame, truth: pd.DataFrame, ks: Sequence[int]) -> dict[tuple[str, int], float]:
    """`ranked` has user_id, item_id, rank (from 1); `truth` has a row per user and positive item.

    Users without a list count as 0. Returns {(metric, k): value} for recall, ndcg and map.
    """
    wanted = truth.groupby("user_id").size()
    hits = ranked.merge(truth, on=["user_id", "item_id"]).sort_values(["user_id", "rank"])
    hits["nth"] = hits.groupby("user_id").cumcount() + 1
    hits["wanted"] = hits["user_id"].map(wanted)
    measured: dict[tuple[str, int], float] = {}
    for k in ks:
        top = hits[hits["rank"] <= k]
        limit = np.minimum(top["wanted"], k)
        gain = 1 / np.log2(top["rank"] + 1)
        # The best possible DCG has its `limit` positives at the first places.
        ideal = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(k) + 2))])
        sums = {
            "recall": (1 / top["wanted"]).sum(),
            "ndcg": (gain / ideal[limit.to_numpy(dtype=int)]).sum(),
            "map": (top["nth"] / top["rank"] / limit).sum(),
        }
        measured |= {(name, k): float(value) / max(len(wanted), 1) for name, value in sums.items()}
    return measured
