"""Ranked lists of scored candidates: by each score, by the blend, and re-ranked to be published."""

import logging
from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np
import pandas as pd

from conf import Config
from conf.clock import day_start
from recsys.blend.rerank import rerank
from recsys.blend.stack import Stack
from recsys.blend.weights import MERGED, Blend
from recsys.dataset import dataset_timezone
from recsys.settings import CoarseSettings, RecommendSettings

log = logging.getLogger(__name__)

BLEND = "blend"  # the order by the stack or the blend
FIRST_SCORES = (MERGED, "coarse")  # of all candidates; other rankers get what these leave


def all_orders(
    config: Config, candidates: pd.DataFrame, scores: list[str], blend: Stack | Blend
) -> dict[str, pd.DataFrame]:
    """The candidates as `order_candidates` ranks them by each score, and last by the blend."""
    survivors = _survivors(candidates, config.get(CoarseSettings).keep)
    return {name: _rank(candidates if name in FIRST_SCORES else survivors, name, blend) for name in [*scores, BLEND]}


def first_ranks(lists: dict[str, pd.DataFrame], length: int) -> pd.DataFrame:
    """The first ranks of each list: list (its name), user_id, rank and item_id.

    For `features oracle` and other judges of lists, which need no model then.
    """
    parts = [
        ranked.loc[ranked["rank"] <= length, ["user_id", "rank", "item_id"]].assign(list=name)
        for name, ranked in lists.items()
    ]
    return pd.concat(parts, ignore_index=True)[["list", "user_id", "rank", "item_id"]]


def order_candidates(candidates: pd.DataFrame, score: str, blend: Stack | Blend, keep: int) -> pd.DataFrame:
    """Rank each user's candidates by one score.

    Rankers after coarse get only the union of the `keep` best by coarse and by recall: a ranker that was trained on
    what was shown knows little about items that never were.

    Args:
        candidates: of `score_candidates`.
        score: one of its scores, or "blend".
        blend: weights, for "blend".
        keep: candidates per user, `coarse.keep`.

    Returns:
        The candidates with `order` (the score) and `rank` (from 1).
    """
    return _rank(candidates if score in FIRST_SCORES else _survivors(candidates, keep), score, blend)


def _survivors(candidates: pd.DataFrame, keep: int) -> pd.DataFrame:
    """Candidates that rankers after coarse get."""
    coarse_rank = _rank_within_users(candidates, candidates["coarse"])
    recall_rank = _rank_within_users(candidates, candidates[MERGED])
    return candidates[np.minimum(coarse_rank, recall_rank) <= keep]


def _rank(candidates: pd.DataFrame, score: str, blend: Stack | Blend) -> pd.DataFrame:
    order = blend.predict(candidates) if score == BLEND else candidates[score].to_numpy(np.float64)
    return candidates.assign(order=order, rank=_rank_within_users(candidates, pd.Series(order, index=candidates.index)))


def present_order(order: str, scores: Sequence[str], day: date) -> str:
    """`order`, or the blend with a warning when it is no score of the day."""
    if order in (BLEND, *scores):
        return order
    log.warning("recommend.order=%s: no such model was trained for %s: lists follow the blend", order, day)
    return BLEND


def rank_to_publish(
    config: Config, candidates: pd.DataFrame, blend: Stack | Blend, items: pd.DataFrame, day: date, order: str
) -> pd.DataFrame:
    """Rank candidates by one score, with what the rules of `recommend` read of them.

    Args:
        config: all settings.
        candidates: of `score_candidates`.
        blend: weights of the scores.
        items: category, author and published_at (UTC), by item_id.
        day: the day; freshness counts to its end by the clocks of its training set.
        order: the score that orders them, of `present_order` or what `judge_lists` found better.

    Returns:
        The candidates of `order_candidates` with category, author and is_fresh.
    """
    ranked = order_candidates(candidates, order, blend, config.get(CoarseSettings).keep)
    # Parquet's timestamps come without a time zone, in UTC.
    end_of_day = day_start(day + timedelta(days=1), dataset_timezone(config, day)).replace(tzinfo=None)
    age = end_of_day - pd.to_datetime(ranked["item_id"].map(items["published_at"]))
    return ranked.assign(
        category=ranked["item_id"].map(items["category"]),
        # Candidates of an older version have no authors.
        author=ranked["item_id"].map(items["author"]) if "author" in items else None,
        is_fresh=(age <= pd.Timedelta(days=config.get(RecommendSettings).fresh_days)).to_numpy(),
    )


def lists_to_publish(ranked: pd.DataFrame, blend: Stack | Blend, settings: RecommendSettings) -> pd.DataFrame:
    """Make the lists to publish: candidates of `rank_to_publish`, re-ranked by the rules of `recommend`.

    Returns:
        user_id, rank, item_id, score (the FM's click probability, which is comparable between users; ranks follow the
        blend and the re-ranking, so it does not fall with them) and channels.
    """
    lists = rerank(ranked, settings)
    # The stack's probability, or the FM's where there is none; both are comparable between users.
    probability = blend.predict(lists) if isinstance(blend, Stack) else lists["fine"]
    table = lists.assign(score=probability.astype(float), rank=lists["rank"].astype("int32"))
    return table[["user_id", "rank", "item_id", "score", "channels"]]


def _rank_within_users(candidates: pd.DataFrame, score: "pd.Series[float]") -> "pd.Series[int]":
    """Ranks from 1 within each user, best first, ties by item."""
    # Codes, since sorting the ids themselves takes several times as long.
    user, item = candidates["user_id"].factorize()[0], candidates["item_id"].factorize(sort=True)[0]
    order = np.lexsort((item, -score.to_numpy(), user))  # the last key sorts first: user, then score, then item
    sizes = np.bincount(user)
    ranks = np.empty(len(user), np.int64)
    ranks[order] = np.arange(1, len(user) + 1) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return pd.Series(ranks, index=candidates.index)
