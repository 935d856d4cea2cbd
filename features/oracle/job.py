"""What a generated day knows and no real one does: `millrace features oracle`.

`best_possible`: expected AUC and log loss of the true click probabilities. `best_learnable`: those of a Bayesian who
has the same impressions as the models. And for every list of the day, and for the Bayesian's, `value_share@k`: the
clicks to expect of it, on the way from random items (0) to the best that there are (1), over users and over requests.
The only reader of the simulator's truth; on real data there is none, and the stage does nothing.
"""

import logging
from datetime import date

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from conf import Config, Paths, UserError, file_url
from conf.runs import RANKED_LISTS, Run, newest_run, start_run
from etl.simulator.truth import read_world
from etl.simulator.world import World
from etl.warehouse.store import Warehouse
from features.dataset.build import split_examples
from features.dataset.names import examples_version
from features.metrics.classification import click_metrics
from features.metrics.spark import auc_and_log_loss
from features.oracle import learnable
from features.oracle.impressions import Impressions, numbers
from features.oracle.value import ListValue
from features.settings import FeatureSettings

log = logging.getLogger(__name__)

BEST_POSSIBLE, BEST_LEARNABLE = "best_possible", "best_learnable"
LISTS_MODEL = "recommend"  # whose run has the lists of the day
LENGTH = 10
MAX_USERS = 3000  # whose posterior and whose lists are looked at: all at scale 1


def run(spark: SparkSession, config: Config, day: date) -> dict[str, float]:
    """Measure truth and lists of the day, and leave run folders for `etl results`.

    Returns:
        auc and log_loss of the validation and the test rows, and `<list>_value_share@10`; nothing on real data.

    Raises:
        UserError: when the truth is of other impressions, or there is no training set of `day`.
    """
    paths = config.get(Paths)
    if not any(paths.truth.glob("dt=*")):  # only the simulator writes it
        return {}
    _, metadata = examples_version(config, day)
    # The same rows as those of the models, by the same split.
    examples = split_examples(Warehouse(spark, config), config.get(FeatureSettings), day, metadata["split"])
    try:
        with start_run(config, BEST_POSSIBLE, day) as run_folder:
            results = _measure_truth(examples, paths, metadata["rows"], run_folder)
        world = read_world(paths.truth)
        day_index = (day - world.settings.start).days
        with start_run(config, BEST_LEARNABLE, day) as run_folder:
            return results | _measure_lists(config, day, world, day_index, examples, run_folder)
    finally:
        examples.unpersist()


def _measure_truth(examples: DataFrame, paths: Paths, rows: dict[str, int], run_folder: Run) -> dict[str, float]:
    """Log the metrics of the true probabilities on the held-out rows."""
    truth = examples.sparkSession.read.parquet(file_url(paths.truth)).withColumnRenamed("impression_id", "example_id")
    scored = examples.join(truth, on="example_id", how="inner").select(
        "split", "label", F.col("probability").alias("score")
    )
    results: dict[str, float] = {}
    for split in ("valid", "test"):
        measured = auc_and_log_loss(scored.where(F.col("split") == split))
        # An inner join drops impressions without a truth: numbers of a part would flatter or hurt every model.
        if int(measured["rows"]) != rows[split]:
            raise UserError(f"the truth has {int(measured['rows'])} of {rows[split]} {split} rows: simulate again")
        metrics: dict[str, float] = {name: measured[name] for name in ("auc", "log_loss") if name in measured}
        results |= run_folder.log_metrics("evaluate", split, metrics, rows[split])
    return results


def _measure_lists(
    config: Config, day: date, world: World, day_index: int, examples: DataFrame, run_folder: Run
) -> dict[str, float]:
    """Log what can be learned at best, and the value of every list of the day, for a sample of the users."""
    step = -(-world.num_users // MAX_USERS)
    users = np.arange(0, world.num_users, step)
    impressions, is_test = _impressions_of(examples, step, world)
    earlier = impressions.where(~is_test)
    # What was learned before the test rows predicts them; lists are made after them.
    tastes = learnable.posterior_tastes(world, earlier, users)
    test = impressions.where(is_test)
    predicted = learnable.click_probability(world, test, tastes, users)
    metrics = click_metrics(test.is_clicked.astype(np.float32), predicted, test.user)
    results = run_folder.log_metrics("evaluate", "test", metrics, len(predicted))
    tastes = learnable.posterior_tastes(world, impressions, users)
    value = ListValue(world, users, day_index, LENGTH)
    lists = {BEST_LEARNABLE: learnable.best_lists(world, tastes, users, day_index, LENGTH)}
    if (folder := newest_run(config, LISTS_MODEL, day)) and (folder / RANKED_LISTS).exists():
        run_folder.log_input_run(folder.name)
        ranked = pd.read_parquet(folder / RANKED_LISTS)
        lists |= {str(name): value.lists_of(rows) for name, rows in ranked.groupby("list", sort=False)}
    requests = _requests(test, users)
    for name, rows in lists.items():
        share = results[f"{name}_value_share@{LENGTH}"] = value.share(rows)
        run_folder.log_metric("evaluate", "serve", "value_share", share, len(users), k=LENGTH, model=name)
        if requests.sum():
            share = value.share(rows, requests)
            run_folder.log_metric("evaluate", "serve", "value_share_requests", share, len(users), k=LENGTH, model=name)
    return results


def _impressions_of(examples: DataFrame, step: int, world: World) -> tuple[Impressions, NDArray[np.bool_]]:
    """Impressions of the users whose numbers are multiples of `step`, and which of them are test rows."""
    number = F.substring("user_id", 2, 20).cast("long")
    is_test = (F.col("split") == "test").cast("int").alias("is_test")
    day_index = F.datediff("day", F.lit(world.settings.start)).alias("day_index")
    sample = examples.where(number % step == 0).select("user_id", "item_id", "position", day_index, "label", is_test)
    frame: pd.DataFrame = sample.orderBy("user_id", "item_id", "day_index", "position").toPandas()
    order = np.argsort(numbers(frame["user_id"]), kind="stable")  # as Impressions are
    return Impressions.from_frame(frame), frame["is_test"].to_numpy(bool)[order]


def _requests(impressions: Impressions, users: NDArray[np.int64]) -> NDArray[np.float64]:
    """(users,) how often each was shown a list's first item."""
    first = impressions.user[impressions.position == 1]
    return np.bincount(np.searchsorted(users, first), minlength=len(users)).astype(np.float64)
