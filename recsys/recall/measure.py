"""What each recall channel finds of the held-out positives, and what it adds to the others."""

from collections.abc import Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from conf.runs import Run
from features.metrics.spark import ranking_metrics


def measure_channels(proposed: DataFrame, truth: DataFrame, names: Sequence[str], ks: Sequence[int], run: Run) -> None:
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
    for (name, metric, k), value in ranking_metrics(ranked.where("rank > 0"), truth, ks).items():
        run.log_metric("recall", "holdout", metric, value, users, k=k, model=name)
    for name, metric, value in _additions(hits, truth, names, deepest):
        run.log_metric("recall", "holdout", metric, value / max(users, 1), users, k=deepest, model=name)


def _additions(hits: DataFrame, truth: DataFrame, names: Sequence[str], k: int) -> list[tuple[str, str, float]]:
    """(channel, metric, sum over users): what only this channel has among its first k, and what all have together."""
    positives = truth.groupby("user_id").agg(F.count("*").alias("wanted"))
    has = {name: F.element_at("places", i + 1).between(1, k) for i, name in enumerate(names)}
    how_many = sum((F.when(one, 1).otherwise(0) for one in has.values()), F.lit(0))
    share = 1 / F.col("wanted")
    columns = [F.sum(F.when(one & (how_many == 1), share)).alias(f"only_{i}") for i, one in enumerate(has.values())]
    together = F.sum(F.when(how_many > 0, share)).alias("union")
    row = hits.join(positives, on="user_id", how="inner").agg(*columns, together).collect()[0]
    gains = [(name, "only", float(row[f"only_{i}"] or 0.0)) for i, name in enumerate(names)]
    return [*gains, ("union", "union", float(row["union"] or 0.0))]
