"""Proposes candidates: every channel scores every item for a batch of users; the best of each are merged into one list.

Runs in Spark's Python workers, a batch of users at a time, with dense matrices (users, items) of at most MAX_CELLS.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from recsys.recall.channels import Scorer
from recsys.recall.history import History, UserBatch, user_batch
from recsys.recall.merge import ChannelWeights

MAX_CELLS = 4_000_000  # of a matrix (users, items): 16 MB of float32 per channel
SCHEMA = (
    "user_id string, item_id string, channels string, score double, rank int, channel_ranks array<int>, "
    "channel_scores array<float>"
)


@dataclass(frozen=True)
class RecallPlan:
    """What a worker needs to propose candidates; broadcast once."""

    scorers: Mapping[str, Scorer]  # by channel
    quota: Mapping[str, int]  # by channel: most candidates that it may propose to a user
    weights: ChannelWeights
    item_ids: NDArray[np.object_]  # (items,)
    max_candidates: int | None  # per user after merging; None: all that the quotas let through
    max_rank: int  # deepest rank of a channel that is recorded
    half_life_days: float  # of `UserBatch.recent`


def propose(history: History, users: DataFrame, plan: RecallPlan) -> DataFrame:
    """Propose the best items that each user did not choose yet.

    One shuffle by user, then only local work.

    Args:
        history: what the users chose before.
        users: user_id.
        plan: scorers and how to merge them.

    Returns:
        Rows of SCHEMA, one per user and candidate: `channels` that proposed it, the merged `score` and its `rank`; for
        each channel, in the order of the plan, `channel_ranks` (0: not among its `max_rank` best) and `channel_scores`,
        standardised over the user's unchosen items.
    """
    # Once per executor instead of once per task: the scorers hold matrices of hundreds of MB.
    shared = users.sparkSession.sparkContext.broadcast(plan)

    def propose_frames(frames: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        plan = shared.value
        batch_size = max(1, MAX_CELLS // max(len(plan.item_ids), 1))
        for frame in frames:
            for start in range(0, len(frame), batch_size):
                batch = user_batch(frame[start : start + batch_size], len(plan.item_ids), plan.half_life_days)
                candidates = propose_batch(batch, plan)
                if len(candidates):  # Arrow can't infer the element type of a list column without rows
                    yield candidates

    partitions = max(users.sparkSession.sparkContext.defaultParallelism, 1)
    return history.for_users(users).repartition(partitions, "user_id").mapInPandas(propose_frames, SCHEMA)


def propose_batch(batch: UserBatch, plan: RecallPlan) -> pd.DataFrame:
    """Propose candidates for a batch of users: rows of SCHEMA, by user in the order of the batch, then by rank."""
    channels = list(plan.scorers)
    raw = [mask_chosen(scorer.score(batch), batch) for scorer in plan.scorers.values()]
    scores = np.stack([standardize(channel) for channel in raw])  # (channels, users, items)
    ranks = np.stack([item_ranks(channel, plan.max_rank) for channel in raw])
    merged = plan.weights.merge(scores, ranks, batch.is_cold)  # (users, items)
    quota = np.array([plan.quota[name] for name in channels])[:, None, None]
    is_proposed = (ranks > 0) & (ranks <= quota)
    # A channel ranks more items than it may propose: their ranks and scores still count in the merged score.
    merged = np.where(is_proposed.any(axis=0), merged, -np.inf)
    # (candidates,) row of the batch and item number.
    users, items = _top_k(merged, merged.shape[1] if plan.max_candidates is None else plan.max_candidates)
    per_user = np.bincount(users, minlength=len(batch.users))
    rank = np.concatenate([np.arange(1, n + 1) for n in per_user] or [users])  # concatenate refuses an empty list
    return pd.DataFrame(
        {
            "user_id": batch.users[users],
            "item_id": plan.item_ids[items],
            "channels": _channel_labels(channels, ranks[:, users, items], is_proposed[:, users, items]),
            "score": merged[users, items].astype(np.float64),
            "rank": rank.astype(np.int32),
            "channel_ranks": list(ranks[:, users, items].T.astype(np.int32)),
            "channel_scores": list(scores[:, users, items].T.astype(np.float32)),
        }
    )


def mask_chosen(scores: NDArray[np.float32], batch: UserBatch) -> NDArray[np.float32]:
    """Copy scores (users, items) with −inf for items that the user chose already, and for NaN."""
    scores = np.array(scores, np.float32)
    users, items = batch.chosen.nonzero()
    scores[users, items] = -np.inf
    scores[np.isnan(scores)] = -np.inf
    return scores


def standardize(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Standardise a channel's scores (users, items) within each user, since channels score in different units.

    (x − mean) / deviation over the finite scores of a row; −1 for −inf, so that what a channel does not propose counts
    as poor without ruling the sum; 0 in a row without a finite score.
    """
    is_finite = np.isfinite(scores)
    count = np.maximum(is_finite.sum(axis=1, keepdims=True), 1)
    filled = np.where(is_finite, scores, 0).astype(np.float64)  # sums of many float32 lose digits
    mean = filled.sum(axis=1, keepdims=True) / count
    deviation = np.sqrt((np.where(is_finite, filled - mean, 0) ** 2).sum(axis=1, keepdims=True) / count)
    scaled = np.where(is_finite, (filled - mean) / np.maximum(deviation, 1e-9), -1.0)
    return np.asarray(np.where(is_finite.any(axis=1, keepdims=True), scaled, 0.0), np.float32)


def item_ranks(scores: NDArray[np.float32], max_rank: int) -> NDArray[np.int32]:
    """Rank the items of each row of scores (users, items), from 1; 0 beyond `max_rank` and for −inf."""
    ranks = np.zeros(scores.shape, np.int32)
    rows, items = _top_k(scores, max_rank)
    ranks[rows, items] = _position_in_row(rows, len(scores)) + 1
    return ranks


def _top_k(scores: NDArray[np.floating], k: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(row, item) of the k best finite scores of each row, best first, ties by item."""
    k = min(k, scores.shape[1])
    # argpartition would break ties at the k-th score by chance: take all that equal it, and cut after sorting.
    kth = -np.partition(-scores, k - 1, axis=1)[:, k - 1 : k] if k else scores[:, :0]  # (rows, 1)
    rows, items = np.nonzero(np.isfinite(scores) & (scores >= kth) if k else np.zeros(scores.shape, bool))
    order = np.lexsort((items, -scores[rows, items], rows))
    rows, items = rows[order], items[order]
    is_top = _position_in_row(rows, len(scores)) < k
    return rows[is_top], items[is_top]


def _position_in_row(rows: NDArray[np.int64], num_rows: int) -> NDArray[np.int64]:
    """Position, from 0, of each entry within its row; `rows` is sorted."""
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=num_rows))])[:-1]
    return np.asarray(np.arange(len(rows)) - starts[rows])


def _channel_labels(channels: Sequence[str], ranks: NDArray[np.int32], is_proposed: NDArray[np.bool_]) -> list[str]:
    """Names of the channels that proposed each candidate, best rank first, joined by +; arrays (channels, rows)."""
    # Channels that did not propose the row come last, beyond its count.
    order = np.argsort(np.where(is_proposed, ranks, np.iinfo(np.int32).max), axis=0, kind="stable")
    counts = is_proposed.sum(axis=0)
    return ["+".join(channels[c] for c in order[: counts[row], row]) for row in range(ranks.shape[1])]
