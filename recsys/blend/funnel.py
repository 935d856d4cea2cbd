"""How many held-out positives survive each step from recall to the published list, and what a channel alone brings."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.metrics.bootstrap import bootstrap_means, percentile_interval

ALL_CHANNELS = "all"
PAIR = ["user_id", "item_id"]


def funnel_rows(
    positives: pd.DataFrame, candidates: pd.DataFrame, ranked: pd.DataFrame, published: pd.DataFrame, length: int
) -> list[dict[str, Any]]:
    """Rows of ads_recall_funnel but for the run; shares have 95 % intervals by bootstrap over users.

    Args:
        positives: user_id and item_id, each pair once.
        candidates: user_id, item_id and channels (joined by +): what is left of recall after merging.
        ranked: user_id, item_id and rank of those that the coarse ranker keeps, by the score that lists follow.
        published: user_id and item_id of the lists after re-ranking.
        length: of the lists.
    """
    if positives.empty:
        return []
    # Hits are few: everything after this join is small.
    hits = candidates[[*PAIR, "channels"]].merge(positives[PAIR], on=PAIR).drop_duplicates(PAIR)
    proposed = positives[PAIR].merge(hits, on=PAIR, how="left")
    channels = proposed["channels"].fillna("").str.split("+")
    names = sorted({name for of_one in channels for name in of_one if name})
    has = {name: np.array([name in of_one for of_one in channels], bool) for name in names}
    num_channels = np.sum([*has.values(), np.zeros(len(proposed), bool)], axis=0)
    user = proposed["user_id"].factorize()[0]
    steps = {
        "merged": num_channels > 0,
        "coarse": _are_in(proposed, ranked),
        "fine": _are_in(proposed, ranked[ranked["rank"] <= length]),
        "published": _are_in(proposed, published),
    }
    survivors = np.stack([*has.values(), *steps.values()], axis=1)  # (positives, channels + steps)
    intervals = iter(_share_intervals(user, survivors))
    rows = []
    for name in names:
        only, total = int((has[name] & (num_channels == 1)).sum()), int(has[name].sum())
        overlap = 1 - only / total if total else None
        rows.append(_row(1, "recall", name, has[name], next(intervals)) | {"gain": only, "overlap": overlap})
    for step, (stage, is_in) in enumerate(steps.items(), start=2):
        rows.append(_row(step, stage, ALL_CHANNELS, is_in, next(intervals)) | {"gain": None, "overlap": None})
    return rows


def _share_intervals(user: NDArray[np.int64], survivors: NDArray[np.bool_]) -> list[tuple[float, float]]:
    """A 95 % interval of each column's mean, by one bootstrap over the users of the rows for all of them."""
    by_user = np.stack([np.bincount(user, column) for column in survivors.T], axis=1)  # (users, columns)
    means = bootstrap_means(by_user, np.bincount(user))
    return [percentile_interval(column) for column in means.T]


def _are_in(positives: pd.DataFrame, lists: pd.DataFrame) -> NDArray[np.bool_]:
    return np.asarray(pd.MultiIndex.from_frame(positives[PAIR]).isin(pd.MultiIndex.from_frame(lists[PAIR])), bool)


def _row(
    step: int, stage: str, channel: str, survives: NDArray[np.bool_], interval: tuple[float, float]
) -> dict[str, Any]:
    low, high = interval
    return {
        "step": step,
        "stage": stage,
        "channel": channel,
        "positives": len(survives),
        "survivors": int(survives.sum()),
        "share": float(survives.mean()),
        "low": min(low, 1.0),
        "high": min(high, 1.0),
    }
