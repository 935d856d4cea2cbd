"""Evaluates the whole recommender on all data in the warehouse, by any split: `millrace recsys evaluate`."""

from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
from pyspark.sql import SparkSession

from conf import Config, UserError
from conf.runs import newest_run, read_jsonl
from etl.tables import dwd
from etl.warehouse.store import Warehouse
from features.dataset import build
from features.metrics.ranking import RANKING_METRICS
from recsys.blend import rank
from recsys.coarse import train as coarse
from recsys.fine import train as fine
from recsys.mf import train as mf
from recsys.recall import candidates
from recsys.settings import RecommendSettings


def run(
    spark: SparkSession, config: Config, *, split: str, k: int, relevant_from: float, seeds: Sequence[int]
) -> dict[str, Any]:
    """Build features, recall and rank on the training rows, and measure the lists on the test rows, once per seed.

    Args:
        spark: the session.
        config: all settings.
        split: day, or one of `features.dataset.splits.SPLIT_METHODS`.
        k: length of the lists.
        relevant_from: least rating that is a positive, in training and test rows alike.
        seeds: of the split.

    Returns:
        Means over the seeds of RANKING_METRICS at k for each channel, each ranker and the blend, and of AUC and log
        loss on the test rows; with several seeds also `<blend's metric>_sd`, their standard deviation.

    Raises:
        UserError: the warehouse holds no impressions or interactions, or `recommend.order` names no score.
    """
    # Every k that is configured, and the one that is asked for.
    ks = tuple(sorted({*config.get(RecommendSettings).ks, k}))
    config = config.with_values({"recommend.ks": list(ks), "features.min_rating": relevant_from})
    rank.check_order(config)
    day = _last_day(Warehouse(spark, config))
    per_seed = [_evaluate_once(spark, config.with_values({"features.seed": seed}), day, split, k) for seed in seeds]
    names = list(per_seed[0])
    report: dict[str, Any] = {"split": split, "day": str(day), "seeds": list(seeds)}
    report |= {name: float(np.mean([metrics[name] for metrics in per_seed])) for name in names}
    if len(per_seed) > 1:
        report |= {
            f"{name}_sd": float(np.std([metrics[name] for metrics in per_seed], ddof=1))
            for name in names
            if "blend" in name
        }
    return report


def _evaluate_once(spark: SparkSession, config: Config, day: date, split: str, k: int) -> dict[str, float]:
    build.run(spark, config, day, split)
    reports = {"mf": mf.run(config, day)}
    candidates.run(spark, config, day, serve=False)
    reports |= {"coarse": coarse.run(config, day), "fine": fine.run(config, day)}
    rank.run(config, day, k=k)
    metrics = _holdout_metrics(config, "recall", day, k) | _holdout_metrics(config, rank.MODEL, day, k)
    for name, report in reports.items():
        for metric in ("test_auc", "test_log_loss"):
            if metric in report:  # there is no AUC of test rows of one class
                metrics[f"{name}_{metric}"] = report[metric]
    return metrics


def _holdout_metrics(config: Config, model: str, day: date, k: int) -> dict[str, float]:
    """RANKING_METRICS at k of the model's newest run, as `<channel or score>_<metric>@k`."""
    folder = newest_run(config, model, day)
    return {
        f"{row['model']}_{row['metric']}@{k}": row["value"]
        for row in (read_jsonl(folder / "metrics.jsonl") if folder else [])
        if row["split"] == "holdout" and row["k"] == k and row["metric"] in RANKING_METRICS
    }


def _last_day(warehouse: Warehouse) -> date:
    days = [*warehouse.partitions(dwd.impression), *warehouse.partitions(dwd.interaction)]
    if not days:
        raise UserError(
            "the warehouse holds no impressions or interactions: run `millrace etl events --date DAY` or "
            "`millrace ingest interactions --ratings FILE --format FORMAT`"
        )
    return date.fromisoformat(max(days))
