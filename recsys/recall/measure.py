"""Offline metrics of the recall channels: how many held-out positives each has, and what it adds to the others."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from conf.runs import Run
from features.metrics import ranking
from features.metrics.ranking import clip_rounding
from features.metrics.spark import ranking_metrics

METRICS = ("precision", "recall", "ndcg", "map")


def log_channel_metrics(
    candidates: DataFrame, truth: DataFrame, channels: Sequence[str], ks: Sequence[int], run: Run
) -> None:
    """Log precision, recall, nDCG and MAP of every channel and of the merged list into the run folder.

    And, at the largest k, `only`: the share of the positives that this channel alone has, and `union`: the share that
    all channels have together. A channel with a low `only` costs time for nothing.

    Args:
        candidates: rows of `propose`.
        truth: one row per user and positive item.
        channels: names, in the order of `channel_ranks`.
        ks: lengths of the lists.
        run: the recall run of the day.
    """
    # Hits are few: everything after this join is small.
    hits = candidates.join(truth, on=["user_id", "item_id"], how="inner")
    channel_ranks = [
        F.struct(F.lit(name).alias("list"), F.col("channel_ranks")[i].alias("rank")) for i, name in enumerate(channels)
    ]
    lists = F.array(*channel_ranks, F.struct(F.lit("merged").alias("list"), F.col("rank")))
    ranked = hits.select("user_id", "item_id", F.explode(lists).alias("entry")).select("user_id", "item_id", "entry.*")
    users = truth.select("user_id").distinct().count()
    metrics = ranking_metrics(ranked.where("rank > 0"), truth, ks)
    _log(metrics, _channel_overlap(hits, truth, channels, max(ks)), users, max(ks), run)


def log_collected_metrics(
    candidates: Iterable[pd.DataFrame], truth: pd.DataFrame, channels: Sequence[str], ks: Sequence[int], run: Run
) -> None:
    """`log_channel_metrics` on the driver, of candidates that come in parts; only hits are kept."""
    hits = pd.concat([part.merge(truth, on=["user_id", "item_id"]) for part in candidates], ignore_index=True)
    ranks = np.stack([*hits["channel_ranks"], np.zeros(len(channels), int)])[:-1]  # (hits, channels)
    lists = {name: ranks[:, i] for i, name in enumerate(channels)} | {"merged": hits["rank"].to_numpy(np.int64)}
    metrics = {}
    for name, list_ranks in lists.items():
        ranked = hits[["user_id", "item_id"]].assign(rank=list_ranks)[list_ranks > 0]
        for (metric, k), value in ranking.ranking_metrics(ranked, truth, ks).items():
            if metric in METRICS:
                metrics[name, metric, k] = clip_rounding(value)
    share = 1 / hits["user_id"].map(truth.groupby("user_id").size()).to_numpy(float)
    has_hit = (ranks >= 1) & (ranks <= max(ks))
    num_channels = has_hit.sum(axis=1)
    overlap = [
        (name, "only", float(share[has_hit[:, i] & (num_channels == 1)].sum())) for i, name in enumerate(channels)
    ]
    overlap.append(("union", "union", float(share[num_channels > 0].sum())))
    _log(metrics, overlap, truth["user_id"].nunique(), max(ks), run)


def _log(
    metrics: dict[tuple[str, str, int], float], overlap: list[tuple[str, str, float]], users: int, k: int, run: Run
) -> None:
    for (name, metric, length), value in metrics.items():
        run.log_metric("recall", "holdout", metric, value, users, k=length, model=name)
    for name, metric, share in overlap:
        run.log_metric("recall", "holdout", metric, clip_rounding(share / max(users, 1)), users, k=k, model=name)


def _channel_overlap(
    hits: DataFrame, truth: DataFrame, channels: Sequence[str], k: int
) -> list[tuple[str, str, float]]:
    """(channel, "only" or "union", sum over users of shares of their positives), at k."""
    num_positives = truth.groupby("user_id").agg(F.count("*").alias("num_positives"))
    has_hit = [F.col("channel_ranks")[i].between(1, k) for i in range(len(channels))]
    # How many channels have the hit.
    num_channels = sum((F.when(hit, 1).otherwise(0) for hit in has_hit), F.lit(0))
    share = 1 / F.col("num_positives")
    only = [F.sum(F.when(hit & (num_channels == 1), share)).alias(f"only_{i}") for i, hit in enumerate(has_hit)]
    union = F.sum(F.when(num_channels > 0, share)).alias("union")
    row = hits.join(num_positives, on="user_id", how="inner").agg(*only, union).collect()[0]
    # A sum without rows is null.
    shares = [(name, "only", float(row[f"only_{i}"] or 0.0)) for i, name in enumerate(channels)]
    return [*shares, ("union", "union", float(row["union"] or 0.0))]
