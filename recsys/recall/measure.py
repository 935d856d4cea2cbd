"""Quality of ranked lists on Spark: as `recsys/evaluation/lists.py`, for sets of any size; what each channel adds."""

import math
from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from conf.runs import Run


def measure_channels(
    proposed: DataFrame, truth: DataFrame, names: Sequence[str], ks: Sequence[int], found: Run
) -> None:
    """Write precision, recall, nDCG and MAP of every channel and of the merged list into the run folder.

    `proposed` are the candidates of `propose`, `truth` a row per user and positive item. `only` is the share of
    positives that this channel alone has among the first k, `union` what all have together; both at the largest k.
    """
    deepest = max(ks)
    hits = proposed.join(truth, on=["user_id", "item_id"], how="inner")
    pairs = F.array(
        *[
            F.struct(F.lit(name).alias("list"), F.element_at("places", i + 1).alias("rank"))
            for i, name in enumerate(names)
        ],
        F.struct(F.lit("merged").alias("list"), F.col("rank")),
    )
    ranked = hits.select("user_id", "item_id", F.explode(pairs).alias("pair")).select("user_id", "item_id", "pair.*")
    users = truth.select("user_id").distinct().count()
    for (name, metric, k), value in measure_lists(ranked.where("rank > 0"), truth, ks).items():
        found.log_metric("recall", "holdout", metric, value, users, k=k, model=name)
    for name, metric, value in _additions(hits, truth, names, deepest):
        found.log_metric("recall", "holdout", metric, value / max(users, 1), users, k=deepest, model=name)


def measure_lists(ranked: DataFrame, truth: DataFrame, ks: Sequence[int]) -> dict[tuple[str, str, int], float]:
    """{(list, metric, k): mean over the users of `truth`} for precision, recall, ndcg and map.

    `ranked` has list (a name), user_id, item_id, rank (from 1); items that are not in `truth` may be left out.
    """
    wanted = truth.groupby("user_id").agg(F.count("*").alias("wanted"))
    users = max(wanted.count(), 1)
    order = Window.partitionBy("list", "user_id").orderBy("rank")
    hits = (
        ranked.join(truth, on=["user_id", "item_id"], how="inner")
        .join(wanted, on="user_id", how="inner")
        .withColumn("nth", F.row_number().over(order))
    )
    sums: dict[tuple[str, int], Column] = {}
    for k in ks:
        within = F.col("rank") <= k
        gains = {
            "precision": F.lit(1 / k),
            "recall": 1 / F.col("wanted"),
            "ndcg": 1 / F.log2(F.col("rank") + 1) / _ideal(k),
            "map": F.col("nth") / F.col("rank") / F.col("wanted"),
        }
        sums |= {(metric, k): F.sum(F.when(within, gain).otherwise(0.0)) for metric, gain in gains.items()}
    columns = [column.alias(f"c{i}") for i, column in enumerate(sums.values())]
    rows = hits.groupBy("list").agg(*columns).collect()
    return {(row["list"], metric, k): row[f"c{i}"] / users for row in rows for i, (metric, k) in enumerate(sums)}


def _ideal(k: int) -> Column:
    """The best possible DCG of a user: positives at the first places."""
    dcg, best = 0.0, []
    for place in range(1, k + 1):
        dcg += 1 / math.log2(place + 1)
        best.append(F.lit(dcg))
    return F.element_at(F.array(*best), F.least(F.col("wanted"), F.lit(k)).cast("int"))


def _additions(hits: DataFrame, truth: DataFrame, names: Sequence[str], k: int) -> list[tuple[str, str, float]]:
    """(channel, metric, sum over users): what only this channel has among its first k, and what all have together."""
    wanted = truth.groupby("user_id").agg(F.count("*").alias("wanted"))
    has = {name: F.element_at("places", i + 1).between(1, k) for i, name in enumerate(names)}
    how_many = sum((F.when(one, 1).otherwise(0) for one in has.values()), F.lit(0))
    share = 1 / F.col("wanted")
    columns = [F.sum(F.when(one & (how_many == 1), share)).alias(f"only_{i}") for i, one in enumerate(has.values())]
    together = F.sum(F.when(how_many > 0, share)).alias("union")
    row = hits.join(wanted, on="user_id", how="inner").agg(*columns, together).collect()[0]
    found = [(name, "only", float(row[f"only_{i}"] or 0.0)) for i, name in enumerate(names)]
    return [*found, ("union", "union", float(row["union"] or 0.0))]
