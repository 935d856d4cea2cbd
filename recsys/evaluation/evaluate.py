"""Evaluate the whole recommender on all data in the warehouse, by any split: `millrace recsys evaluate`."""

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np

from conf import Config, UserError
from conf.runs import newest_run, read_jsonl
from etl.tables import dwd
from etl.warehouse.store import Warehouse
from features.dataset import build
from features.metrics.ranking import RANKING_METRICS
from recsys.blend import rank
from recsys.coarse import train as coarse
from recsys.fine import train as fine
from recsys.recall import candidates
from recsys.settings import RecommendSettings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def run(
    spark: "SparkSession", config: Config, *, split: str, k: int, relevant_from: float, seeds: Sequence[int]
) -> dict[str, Any]:
    """Features, recall and ranking on the training rows, lists measured on the test rows; means over `seeds` of the
    split.

    Ratings from `relevant_from` on are relevant, in training and test rows alike. Returns
    RANKING_METRICS at k of each channel, each step and the blend, and, with several seeds, the standard deviation of
    the blend's.
    """
    ks = tuple(sorted({*config.get(RecommendSettings).ks, k}))
    config = config.with_values({"recommend.ks": list(ks), "features.min_rating": relevant_from})
    day = _last_day(Warehouse(spark, config))
    per_seed = [_once(spark, config.with_values({"features.seed": seed}), day, split, k) for seed in seeds]
    names = list(per_seed[0])
    report: dict[str, Any] = {"split": split, "day": str(day), "seeds": list(seeds)}
    report |= {name: float(np.mean([one[name] for one in per_seed])) for name in names}
    if len(per_seed) > 1:
        report |= {
            f"{name}_sd": float(np.std([one[name] for one in per_seed], ddof=1)) for name in names if "blend" in name
        }
    return report


def _once(spark: "SparkSession", config: Config, day: date, split: str, k: int) -> dict[str, float]:
    build.run(spark, config, day, split)
    candidates.run(spark, config, day, serve=False)
    numbers = {"coarse": coarse.run(config, day), "fine": fine.run(config, day)}
    metrics: dict[str, float] = {}
    for model in ("recall", rank.MODEL):
        if model == rank.MODEL:
            rank.run(config, day, at=k)
        folder = newest_run(config, model, day)
        rows = read_jsonl(folder / "metrics.jsonl") if folder else []
        metrics |= {
            f"{row['model']}_{row['metric']}@{k}": row["value"]
            for row in rows
            if row["split"] == "holdout" and row["k"] == k and row["metric"] in RANKING_METRICS
        }
    return metrics | {
        f"{name}_test_{metric}": numbers[name][f"test_{metric}"]
        for name in numbers
        for metric in ("auc", "log_loss")
        if f"test_{metric}" in numbers[name]
    }


def _last_day(warehouse: Warehouse) -> date:
    days = [*warehouse.partitions(dwd.impression), *warehouse.partitions(dwd.interaction)]
    if not days:
        raise UserError("the warehouse holds no impressions or interactions: run `millrace ingest` or `millrace run`")
    return date.fromisoformat(max(days))
