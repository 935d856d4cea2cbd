"""Proposes candidates: every channel lists its best items for a batch of users; the lists are merged into one.

On the driver's cores where histories are there, else in Spark's Python workers; a batch of users at a time in either
case, so memory grows with a batch and its lists, not with the items.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from threadpoolctl import threadpool_limits

from recsys.recall.channels import Scorer
from recsys.recall.history import HiddenItems, History, UserBatch, user_batch
from recsys.recall.kernels import jit
from recsys.recall.lists import num_threads
from recsys.recall.merge import ChannelWeights

BATCH_USERS = 512  # of a batch: its lists and scores of ten channels are some 30 MB
SCHEMA = (
    "user_id string, item_id string, channels string, score double, rank int, channel_ranks array<int>, "
    "channel_scores array<float>"
)
ARROW_SCHEMA = pa.schema(
    {
        "user_id": pa.string(), "item_id": pa.string(), "channels": pa.string(), "score": pa.float64(),
        "rank": pa.int32(), "channel_ranks": pa.list_(pa.int32()), "channel_scores": pa.list_(pa.float32()),
    }
)  # fmt: skip


@dataclass(frozen=True)
class RecallPlan:
    """What is needed to propose candidates; broadcast once."""

    scorers: Mapping[str, Scorer]  # by channel
    quota: Mapping[str, int]  # by channel: most candidates that it may propose to a user
    weights: ChannelWeights
    item_ids: NDArray[np.object_]  # (items,)
    max_candidates: int | None  # per user after merging; None: all that the quotas let through
    max_rank: int  # deepest rank of a channel that is recorded
    half_life_days: float  # of `UserBatch.recent`
    reserved: Mapping[str, int] = field(default_factory=dict)  # by channel: its first candidates that always stay


def propose(history: History, users: DataFrame, plan: RecallPlan) -> DataFrame:
    """Propose the best items for each user, without what `recall.exclude` leaves out, in Spark's workers.

    One shuffle by user, then only local work.

    Args:
        history: what the users chose before.
        users: user_id.
        plan: scorers and how to merge them.

    Returns:
        Rows of SCHEMA, one per user and candidate: `channels` that proposed it, the merged `score` and its `rank`; for
        each channel, in the order of the plan, `channel_ranks` (0: not among its `max_rank` best) and `channel_scores`,
        standardised over the items that are not left out.
    """
    # Once per executor instead of once per task: the scorers hold matrices of hundreds of MB.
    shared = users.sparkSession.sparkContext.broadcast(plan)

    def propose_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        plan = shared.value
        for arrow in batches:
            frame = arrow.to_pandas()
            for start in range(0, len(frame), BATCH_USERS):
                rows = frame[start : start + BATCH_USERS]
                yield propose_batch(user_batch(rows, len(plan.item_ids), plan.half_life_days), plan)

    partitions = max(users.sparkSession.sparkContext.defaultParallelism, 1)
    return history.for_users(users).repartition(partitions, "user_id").mapInArrow(propose_batches, SCHEMA)


def propose_on_driver(
    histories: UserBatch, users: NDArray[np.object_], plan: RecallPlan, hidden: HiddenItems | None = None
) -> Iterator[pa.RecordBatch]:
    """Propose as `propose` does, in as many threads as there are cores; only their batches are in memory.

    Args:
        histories: `History.all_users`.
        users: ids, in the order of the rows.
        plan: scorers and how to merge them.
        hidden: what lists leave out; None: the histories.
    """
    rows = pd.Index(histories.users).get_indexer(pd.Index(users))
    starts = range(0, len(users), BATCH_USERS)

    def propose_from(start: int) -> pa.RecordBatch:
        stop = start + BATCH_USERS
        batch = histories.take(rows[start:stop], users[start:stop])
        if hidden is not None:
            batch = replace(batch, hidden=hidden.take(batch.users))
        return propose_batch(batch, plan)

    threads = num_threads()
    with ThreadPoolExecutor(threads) as pool, threadpool_limits(1, "blas"):
        # In rounds: what was computed waits for its reader.
        for position in range(0, len(starts), 2 * threads):
            yield from pool.map(propose_from, starts[position : position + 2 * threads])


def write_proposals(batches: Iterable[pa.RecordBatch], file: BinaryIO) -> None:
    """Write proposals as Parquet, a batch at a time."""
    with pq.ParquetWriter(file, ARROW_SCHEMA, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)


def propose_batch(batch: UserBatch, plan: RecallPlan) -> pa.RecordBatch:
    """Propose candidates for a batch of users: rows of SCHEMA, by user in the order of the batch, then by rank."""
    channels = list(plan.scorers)
    tops = [scorer.top_items(batch, plan.max_rank) for scorer in plan.scorers.values()]
    quota = np.array([plan.quota[name] for name in channels])
    items, ranks = unite_lists([top.items for top in tops], quota, len(plan.item_ids))
    scores = np.stack([top.standardize(top.score_pairs(items)) for top in tops])  # (channels, users, m)
    merged = np.where(items >= 0, plan.weights.merge(scores, ranks, batch.is_cold), -np.inf)  # (users, m)
    if plan.max_candidates is not None:
        reserved = np.array([plan.reserved.get(name, 0) for name in channels])[:, None, None]
        is_reserved = np.asarray(((ranks > 0) & (ranks <= reserved)).any(axis=0))
        merged = keep_best(merged, is_reserved, plan.max_candidates)
    # Items ascend, so a stable sort breaks ties by item.
    order = np.argsort(-merged, axis=1, kind="stable")[:, : plan.max_candidates]
    is_kept = np.take_along_axis(merged, order, axis=1) > -np.inf
    users, columns = np.nonzero(is_kept)  # by user, then by rank
    slots = order[users, columns]
    row_ranks = np.ascontiguousarray(ranks[:, users, slots].T)  # (rows, channels)
    row_scores = np.ascontiguousarray(scores[:, users, slots].T)  # (rows, channels)
    # A channel ranks more items than it may propose: their ranks and scores still count in the merged score.
    is_proposed = (row_ranks > 0) & (row_ranks <= quota)
    return pa.RecordBatch.from_arrays(
        [
            pa.array(batch.users, pa.string()).take(pa.array(users)),
            pa.array(plan.item_ids[items[users, slots]], pa.string()),
            channel_labels(channels, row_ranks, is_proposed),
            pa.array(merged[users, slots]),
            pa.array(columns.astype(np.int32) + 1),
            _lists(row_ranks),
            _lists(row_scores),
        ],
        schema=ARROW_SCHEMA,
    )


def keep_best(merged: NDArray[np.float64], is_reserved: NDArray[np.bool_], max_candidates: int) -> NDArray[np.float64]:
    """Merged scores (users, m), −inf for all but the reserved and then the best, `max_candidates` a user."""
    first = np.where(is_reserved & (merged > -np.inf), 0, 1)
    order = np.lexsort((-merged, first), axis=1)[:, max_candidates:]
    kept = merged.copy()
    np.put_along_axis(kept, order, -np.inf, axis=1)
    return kept


def unite_lists(
    lists: Sequence[NDArray[np.int32]], quota: NDArray[np.int64], num_items: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Unite the channels' lists, each up to its quota.

    Args:
        lists: for each channel (users, k) items, best first, −1 where there are fewer.
        quota: (channels,) how many of its items a channel proposes.
        num_items: number of all items.

    Returns:
        Items (users, m), ascending, −1 where a user has fewer, and their ranks (channels, users, m) in each channel's
        whole list, from 1; 0 where they are not in it.
    """
    stacked = np.stack(lists)  # (channels, users, k)
    longest = int(np.minimum(quota, stacked.shape[2]).sum())
    items = np.full((stacked.shape[1], longest), -1, np.int32)
    ranks = np.zeros((len(lists), stacked.shape[1], longest), np.int32)
    most = _unite(stacked, quota, num_items, items, ranks)
    return items[:, :most], ranks[:, :, :most]


@jit
def _unite(lists, quota, num_items, items, ranks):  # type: ignore[no-untyped-def]
    """Fill `items` and `ranks` of `unite_lists` and return the most items of a user."""
    channels, users, k = lists.shape
    slot = np.full(num_items, -1, np.int32)  # place of an item among the user's
    most = 0
    for user in range(users):
        count = 0
        for channel in range(channels):
            for position in range(min(quota[channel], k)):
                item = lists[channel, user, position]
                if item >= 0 and slot[item] < 0:
                    slot[item] = 0
                    items[user, count] = item
                    count += 1
        items[user, :count] = np.sort(items[user, :count])
        for position in range(count):
            slot[items[user, position]] = position
        for channel in range(channels):
            for position in range(k):
                item = lists[channel, user, position]
                if item >= 0 and slot[item] >= 0:
                    ranks[channel, user, slot[item]] = position + 1
        for position in range(count):
            slot[items[user, position]] = -1
        most = max(most, count)
    return most


def channel_labels(channels: Sequence[str], ranks: NDArray[np.int32], is_proposed: NDArray[np.bool_]) -> pa.StringArray:
    """Names of the channels that proposed each candidate, best rank first, joined by +; arrays (rows, channels)."""
    # Channels that did not propose the row come last, beyond its count.
    order = np.argsort(np.where(is_proposed, ranks, np.iinfo(np.int32).max), axis=1, kind="stable")
    beyond = np.arange(len(channels)) >= is_proposed.sum(axis=1, keepdims=True)
    digits = np.where(beyond, 0, order + 1).astype(np.uint8)
    # Few orders are distinct: a label for each of them. As numbers where these fit 64 bits, else as bytes.
    base = len(channels) + 1
    fits = base ** len(channels) < 2**63
    keys = digits @ (base ** np.arange(len(channels))) if fits else digits.view(f"V{len(channels)}").ravel().astype("O")
    codes = pd.factorize(keys)[0]
    first = np.unique(codes, return_index=True)[1]
    labels = ["+".join(channels[digit - 1] for digit in row if digit) for row in digits[first].tolist()]
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(labels, pa.string())).cast(pa.string())


def _lists(values: NDArray[np.generic]) -> pa.ListArray:
    """Rows of an array (rows, columns) as lists."""
    offsets = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.ravel()))
