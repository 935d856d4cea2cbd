"""Proposes candidates: every channel scores every item for a batch of users; the best of each, merged into one list.

Runs in Spark's workers, a batch of users at a time, as matrices (users, items) that are as large as `CELLS` allows.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from recsys.recall.history import Batch, History, batch_of
from recsys.recall.merge import Weights

if TYPE_CHECKING:
    from recsys.recall import Scorer

CELLS = 4_000_000
COLUMNS = (
    "user_id string, item_id string, channels string, score double, rank int, places array<int>, scores array<float>"
)


@dataclass(frozen=True)
class Plan:
    """What a worker needs: scorers and how many each may propose, by channel; how to merge; what to leave out."""

    scorers: "Mapping[str, Scorer]"
    quota: Mapping[str, int]
    weights: Weights
    item_ids: NDArray[np.object_]
    keep: int | None
    deep: int
    half_life_days: float


def propose(history: History, users: DataFrame, plan: Plan) -> DataFrame:
    """user_id, item_id, channels, score, rank, places, scores: the best unseen items for each of `users`.

    `places` says at which place each channel has the item (0: not among its `plan.deep` best), `scores` its score,
    standardised over the user's unseen items (0 where the channel has none).
    """
    shared = users.sparkSession.sparkContext.broadcast(plan)

    def work(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        plan = shared.value
        size = max(1, CELLS // max(len(plan.item_ids), 1))
        for frame in frames:
            for start in range(0, len(frame), size):
                batch = batch_of(frame[start : start + size], len(plan.item_ids), plan.half_life_days)
                proposed = candidates(batch, plan)
                if len(proposed):  # Arrow can't make lists of none
                    yield proposed

    partitions = max(users.sparkSession.sparkContext.defaultParallelism, 1)
    return history.of_users(users).repartition(partitions, "user_id").mapInPandas(work, COLUMNS)


def candidates(batch: Batch, plan: Plan) -> pd.DataFrame:
    """The rows of `COLUMNS` for a batch of users."""
    names = list(plan.scorers)
    raw = [unseen(scorer.score(batch), batch) for scorer in plan.scorers.values()]
    standard = np.stack([standardised(scores) for scores in raw])  # (channels, users, items)
    places = np.stack([places_of(scores, plan.deep) for scores in raw])
    merged = plan.weights.merge(standard, places, batch.is_cold)
    quota = np.array([plan.quota[name] for name in names])[:, None, None]
    proposed = (places > 0) & (places <= quota)
    merged = np.where(proposed.any(axis=0), merged, -np.inf)
    rows, items = _best(merged, merged.shape[1] if plan.keep is None else plan.keep)
    rank = np.concatenate([np.arange(1, n + 1) for n in np.bincount(rows, minlength=len(batch.users))] or [rows])
    return pd.DataFrame(
        {
            "user_id": batch.users[rows],
            "item_id": plan.item_ids[items],
            "channels": _reasons(names, places[:, rows, items], proposed[:, rows, items]),
            "score": merged[rows, items].astype(np.float64),
            "rank": rank.astype(np.int32),
            "places": list(places[:, rows, items].T.astype(np.int32)),
            "scores": list(standard[:, rows, items].T.astype(np.float32)),
        }
    )


def unseen(scores: NDArray[np.float32], batch: Batch) -> NDArray[np.float32]:
    """−inf for items that the user chose already."""
    scores = np.array(scores, np.float32)
    users, items = batch.chosen.nonzero()
    scores[users, items] = -np.inf
    scores[np.isnan(scores)] = -np.inf
    return scores


def standardised(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """(x − mean) / deviation over each row's finite scores, −1 at least; 0 in a row without any.

    Scores of channels are in different units. What a channel does not propose counts as its worst.
    """
    finite = np.isfinite(scores)
    number = np.maximum(finite.sum(axis=1, keepdims=True), 1)
    filled = np.where(finite, scores, 0).astype(np.float64)
    mean = filled.sum(axis=1, keepdims=True) / number
    deviation = np.sqrt((np.where(finite, filled - mean, 0) ** 2).sum(axis=1, keepdims=True) / number)
    scaled = np.where(finite, (filled - mean) / np.maximum(deviation, 1e-9), -1.0)
    return np.asarray(np.where(finite.any(axis=1, keepdims=True), scaled, 0.0), np.float32)


def places_of(scores: NDArray[np.float32], deep: int) -> NDArray[np.int32]:
    """Place of each item in its row, from 1, ties by item; 0 beyond the `deep` best and for −inf."""
    places = np.zeros(scores.shape, np.int32)
    rows, items = _best(scores, deep)
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(scores)))])[:-1]
    places[rows, items] = np.arange(len(rows)) - starts[rows] + 1
    return places


def _best(scores: NDArray[np.floating], k: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(row, item) of the k best finite scores of each row, best first, ties by item."""
    k = min(k, scores.shape[1])
    # Ties at the edge must not hang on the order of partitioning: take all that equal the k-th.
    edge = -np.partition(-scores, k - 1, axis=1)[:, k - 1 : k] if k else scores[:, :0]
    rows, items = np.nonzero(np.isfinite(scores) & (scores >= edge) if k else np.zeros(scores.shape, bool))
    order = np.lexsort((items, -scores[rows, items], rows))
    rows, items = rows[order], items[order]
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(scores)))])[:-1]
    is_top = np.arange(len(rows)) - starts[rows] < k
    return rows[is_top], items[is_top]


def _reasons(names: Sequence[str], places: NDArray[np.int32], proposed: NDArray[np.bool_]) -> list[str]:
    """Channels that proposed each candidate, best place first, joined by +; `places` is (channels, candidates)."""
    order = np.argsort(np.where(proposed, places, np.iinfo(np.int32).max), axis=0, kind="stable")
    counts = proposed.sum(axis=0)
    return ["+".join(names[c] for c in order[: counts[row], row]) for row in range(places.shape[1])]
