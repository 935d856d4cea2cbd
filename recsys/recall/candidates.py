"""The recall stage: the day's candidates with their features: `millrace recsys recall --date D`.

Three sets are published under `datasets/candidates/dt=…/`:
  fit      for users of the validation rows, from positives of the training rows, labelled by the validation rows: the
           weights of the channels and the blend of the rankers are fitted on it;
  holdout  for users of the test rows, from all positives before them, beside what they chose (`positives.parquet`) and
           the items that there were (`items.parquet`): ranked lists are measured on it;
  serve    for every known user, from all positives: the lists to publish.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial, reduce
from operator import add
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from conf import Config, Paths, UserError, file_url
from conf.clock import day_start
from conf.console.progress import waiting
from conf.runs import Run, start_run
from conf.versions import publish_version
from etl.session import run_concurrently
from etl.settings import SiteSettings
from etl.spark_progress import spark_progress
from etl.stage import RowCounts, stage_run, total_counts
from etl.tables import dim, dws
from etl.warehouse.store import Warehouse
from features.compatibility import TIMEZONE
from features.dataset.build import candidate_features, countable_rows, split_examples
from features.dataset.names import examples_version
from features.dataset.parquet import select_dataset_columns, write_candidates
from features.dataset.sampling import hash_uniform
from features.dataset.splits import TIME_ORDERED
from features.metrics.spark import ranking_metrics
from features.settings import FeatureSettings
from recsys.dataset import HOT_ITEMS
from recsys.recall.channels import channel_named
from recsys.recall.history import History
from recsys.recall.measure import log_channel_metrics
from recsys.recall.merge import ChannelWeights, fit_channel_weights, initial_weights
from recsys.recall.propose import RecallPlan, propose
from recsys.settings import RecallSettings, RecommendSettings

log = logging.getLogger(__name__)

KIND = "candidates"
COLUMNS = ["user_id", "item_id", "channels", "score"]
LABELLED_BY = {"fit": "valid", "holdout": "test"}  # set -> split whose positives its lists are compared with
MAX_FIT_ROWS = 1_000_000  # candidates that weights are fitted on, on the driver


def run(spark: SparkSession, config: Config, day: date, *, serve: bool = True) -> dict[str, Any]:
    """Propose and publish the day's candidates, with the split that its training set was built with.

    Args:
        spark: the session.
        config: all settings.
        day: the day, whose training set must be published.
        serve: whether to propose candidates for published lists, too; an evaluation needs none.

    Returns:
        Row counts of the stage.

    Raises:
        UserError: an unknown channel, no training set for the day, or one of another `site.timezone`.
    """
    for name in config.get(RecallSettings).quota:
        channel_named(name)  # an unknown one is refused now, not after minutes on Spark
    _, examples = examples_version(config, day)
    warehouse = Warehouse(spark, config)
    num_served = 0
    with stage_run(warehouse, "recall", [day]) as row_counts, _day_data(warehouse, config, day, examples) as data:
        metadata: dict[str, Any] = {"split": examples["split"], "examples": examples["version"], TIMEZONE: data.zone}
        with (
            publish_version(config.get(Paths).datasets(KIND, day), metadata) as folder,
            start_run(config, "recall", day) as run,
        ):
            progress = spark_progress(spark)
            with waiting(f"recall {day}: weights of the channels", progress):
                weights, fit_set = _fit_set(data, run)
            with waiting(f"recall {day}: lists to measure", progress):
                sets = {"fit": fit_set, "holdout": _holdout_set(data, weights, folder, run)}
            if serve:
                with waiting(f"recall {day}: lists to serve", progress):
                    sets["serve"], num_served = _serve_set(data, weights, folder)
            with waiting(f"recall {day}: features of all candidates", progress):
                _write_sets(data, sets, folder)
            metadata["sources"] = warehouse.sources()
        row_counts[day] = RowCounts(rows_in=num_served, rows_out=num_served)
    return total_counts(row_counts)


def measure(spark: SparkSession, config: Config, day: date, split: str) -> dict[str, float]:
    """Measure the merged lists of the users of a split, without writing anything; for searches over `recall.*`.

    The channels' weights are fitted on the validation rows in either case.

    Args:
        spark: the session.
        config: all settings.
        day: the day, whose training set must be published.
        split: valid or test.

    Returns:
        `recall@50` -> value, for the metrics of `ranking_metrics` and every k of `recommend.ks`.

    Raises:
        UserError: no training set for the day, or one of another `site.timezone`.
    """
    _, examples = examples_version(config, day)
    with _day_data(Warehouse(spark, config), config, day, examples) as data:
        fitted = _fit_weights(data)
        truth = fitted.truth
        if split == "valid":
            ranked = rescore(fitted.candidates, fitted.weights, data.recall.keep)
        else:
            positives, truth = data.split_positives(("train", "valid"), split)
            users = truth.select("user_id").distinct()
            history, ranked = _propose(data, positives, users, fitted.weights, max_candidates=data.recall.keep)
        lists = ranked.select(F.lit("merged").alias("list"), "user_id", "item_id", "rank")
        metrics = ranking_metrics(lists, truth, config.get(RecommendSettings).ks)
        if split != "valid":
            history.unpersist()
    return {f"{metric}@{k}": value for (_, metric, k), value in metrics.items()}


@dataclass(frozen=True)
class _DayData:
    """What the sets of a day are made from."""

    warehouse: Warehouse
    config: Config
    day: date
    examples: DataFrame  # of the training set, with `split`; persisted
    split: str  # name of the split: day, time, random …
    statistics: dict[str, Any]  # of the training rows
    zone: str  # time zone of the training set's days and hours
    persisted: list[DataFrame]  # until all sets are written

    @property
    def recall(self) -> RecallSettings:
        """The section `recall`."""
        return self.config.get(RecallSettings)

    def persist(self, frame: DataFrame) -> DataFrame:
        """Persist a frame until all sets are written."""
        self.persisted.append(frame.persist())
        return frame

    def split_positives(self, before: tuple[str, ...], after: str) -> tuple[DataFrame, DataFrame]:
        """Positives of the splits `before` (user_id, item_id, at), and those of `after` that are new to their users."""
        positives = self.examples.where(F.col("label") == 1)
        earlier = positives.where(F.col("split").isin(*before)).select("user_id", "item_id", "at")
        # A repeated choice needs no recommendation: only items that are new to the user count.
        later = positives.where(F.col("split") == after).select("user_id", "item_id").distinct()
        return earlier, self.persist(later.join(earlier, on=["user_id", "item_id"], how="left_anti"))


@contextmanager
def _day_data(warehouse: Warehouse, config: Config, day: date, metadata: Mapping[str, Any]) -> Iterator[_DayData]:
    persisted: list[DataFrame] = []
    zone, declared = metadata.get(TIMEZONE, "UTC"), config.get(SiteSettings).zone
    if zone != declared:  # the examples of the warehouse would be on other days than those of the training set
        raise UserError(
            f"the training set of {day} has hours and days of {zone}, site.timezone is {declared}: build it again by "
            f"`millrace features build --date {day}`"
        )
    examples = split_examples(warehouse, config.get(FeatureSettings), day, metadata["split"]).persist()
    try:
        yield _DayData(warehouse, config, day, examples, metadata["split"], metadata["statistics"], zone, persisted)
    finally:
        for frame in (examples, *persisted):
            frame.unpersist()


class _FittedWeights(NamedTuple):
    weights: ChannelWeights
    candidates: DataFrame  # that they were fitted on, before the cut to `recall.keep`: see `label_candidates`
    truth: DataFrame  # positives of the validation rows
    num_rows: int


def _fit_weights(data: _DayData) -> _FittedWeights:
    """Propose candidates from the training rows, and fit the channels' weights on those of the validation rows."""
    positives, truth = data.split_positives(("train",), "valid")
    channels = list(data.recall.quota)
    users = truth.select("user_id").distinct()
    history, proposed = _propose(data, positives, users, initial_weights(channels), max_candidates=None)
    candidates = data.persist(label_candidates(proposed, truth, positives))
    # Cold users are ranked by one channel whatever the weights are: they would only add noise.
    sample = sample_users(candidates.where("is_warm"))
    weights = fit_channel_weights(sample, channels, data.recall.learn_at)
    history.unpersist()  # its work is done: the sample above has materialised the candidates
    return _FittedWeights(weights, candidates, truth, len(sample))


def _fit_set(data: _DayData, run: Run) -> tuple[ChannelWeights, DataFrame]:
    """The channels' weights, which are logged, and the set `fit`."""
    fitted = _fit_weights(data)
    weights = fitted.weights
    if weights.values is not None:
        for channel, value in zip(data.recall.quota, weights.values, strict=True):
            run.log_metric("recall", "valid", "weight", value, fitted.num_rows, model=channel)
    return weights, rescore(fitted.candidates, weights, data.recall.keep).select(*COLUMNS, "label")


def _holdout_set(data: _DayData, weights: ChannelWeights, folder: Path, run: Run) -> DataFrame:
    """The set `holdout`, whose channels are measured; its positives and items are written beside it."""
    positives, truth = data.split_positives(("train", "valid"), "test")
    users = truth.select("user_id").distinct()
    history, candidates = _propose(data, positives, users, weights, max_candidates=data.recall.keep)
    log_channel_metrics(candidates, truth, list(data.recall.quota), data.config.get(RecommendSettings).ks, run)
    # One file, which ranking reads with pandas: users of the test rows are few.
    truth.coalesce(1).write.parquet(file_url(folder / "positives.parquet"))
    items = history.items.assign(popularity=history.popularity)
    items[["item_id", "category", "published_at", "popularity"]].to_parquet(folder / "items.parquet")
    history.unpersist()
    return candidates.select(*COLUMNS, F.lit(0).alias("label"))


def _serve_set(data: _DayData, weights: ChannelWeights, folder: Path) -> tuple[DataFrame, int]:
    """The set `serve`, which is written to dws_recall_candidate too, and its number of rows; hot items beside it."""
    positives = data.examples.where(F.col("label") == 1).select("user_id", "item_id", "at")
    # Users without a history as well: they get what is hot and new.
    users = data.warehouse.newest_snapshot(dim.user, data.day).select("user_id")
    num_users, num_active = users.count(), users.join(positives, on="user_id", how="left_semi").count()
    if num_active < num_users:
        log.info(
            "%d of %d users chose nothing in the %d days up to %s (features.window_days): they get what is hot and new",
            num_users - num_active,
            num_users,
            data.config.get(FeatureSettings).window_days,
            data.day,
        )
    history, candidates = _propose(data, positives, users, weights, max_candidates=data.recall.keep)
    rows = dws.recall_candidate.with_partition(candidates.select(*COLUMNS, "rank"), data.day)
    num_rows = data.warehouse.write(dws.recall_candidate, rows, [data.day])[data.day]
    history.items[["item_id", "published_at"]].assign(heat=history.heat).to_parquet(folder / HOT_ITEMS)
    history.unpersist()
    return candidates.select(*COLUMNS, F.lit(0).alias("label")), num_rows


def _propose(
    data: _DayData, positives: DataFrame, users: DataFrame, weights: ChannelWeights, *, max_candidates: int | None
) -> tuple[History, DataFrame]:
    """Fit all channels on `positives`, concurrently, and propose candidates for `users`; see `propose.propose`."""
    settings = data.recall
    newest = positives.agg(F.max(F.col("at").cast("double"))).collect()[0][0]  # null without positives
    history = History(positives, data.warehouse.newest_snapshot(dim.item, data.day), newest or 0.0, settings)
    scorers = run_concurrently(*[partial(channel_named(name), history, settings) for name in settings.quota])
    plan = RecallPlan(
        scorers=dict(zip(settings.quota, scorers, strict=True)),
        quota=settings.quota,
        weights=weights,
        item_ids=history.items["item_id"].to_numpy(dtype=object),
        max_candidates=max_candidates,
        max_rank=max(*data.config.get(RecommendSettings).ks, *settings.quota.values()),
        half_life_days=settings.history_half_life_days,
    )
    return history, data.persist(propose(history, users, plan))


def _write_sets(data: _DayData, sets: Mapping[str, DataFrame], folder: Path) -> None:
    """Compute the features of all sets in one pass, and write each set to a folder of its name."""
    settings = data.config.get(FeatureSettings)
    parts = [
        pairs.withColumns({"part": F.lit(name), "at": F.timestamp_seconds(F.lit(_shown_at(data, name)))})
        for name, pairs in sets.items()
    ]
    # In one pass: the counts behind the features are the expensive part.
    pairs = reduce(DataFrame.unionByName, parts)
    counted = countable_rows(data.examples, data.split)
    features = candidate_features(data.warehouse, settings, data.day, pairs, counted, data.statistics)
    write_candidates(select_dataset_columns(features, [*COLUMNS, "part"]), folder, list(sets), settings)


def _shown_at(data: _DayData, set_name: str) -> float:
    """The moment that the features of a set's candidates are computed for, in seconds since 1970.

    Where splits follow time, it is when the rows begin whose positives label the set: features must not count later
    rows. In other splits these rows are of all times, and candidates are shown after the day, as those to serve are.
    """
    split = LABELLED_BY.get(set_name)
    if split and data.split in TIME_ORDERED:
        rows = data.examples.where(F.col("split") == split)
        return float(rows.agg(F.min(F.col("at").cast("double"))).collect()[0][0])
    return day_start(data.day + timedelta(days=1), data.zone).timestamp()


def label_candidates(candidates: DataFrame, truth: DataFrame, positives: DataFrame) -> DataFrame:
    """Add `label` (1: the user chose the item afterwards) and `is_warm` (the user has a history) to candidates.

    Args:
        candidates: rows of `propose`.
        truth: user_id and item_id of later positives.
        positives: earlier positives, which the candidates were proposed from.
    """
    labels = truth.withColumn("label", F.lit(1))
    warm_users = positives.select("user_id", F.lit(True).alias("is_warm")).distinct()
    return (
        candidates.join(labels, on=["user_id", "item_id"], how="left")
        .join(warm_users, on="user_id", how="left")
        .fillna({"label": 0, "is_warm": False})
    )


def sample_users(candidates: DataFrame) -> pd.DataFrame:
    """Collect all candidates of as many users as MAX_FIT_ROWS allows, sampled by a hash of the user, in a fixed order.

    Returns:
        user_id, item_id, channel_scores and label.
    """
    share = min(1.0, MAX_FIT_ROWS / max(candidates.count(), 1))
    sampled = candidates.where(hash_uniform("user_id") < share)
    sample: pd.DataFrame = sampled.select("user_id", "item_id", "channel_scores", "label").toPandas()
    return sample.sort_values(["user_id", "item_id"], ignore_index=True)


def rescore(candidates: DataFrame, weights: ChannelWeights, max_candidates: int) -> DataFrame:
    """Score candidates again by weights that were fitted on them; keep and rank the best of each user.

    For users with a history, proposing them again with these weights would give the same rows at the cost of scoring
    every item anew; others are ranked by one channel, whatever the weights.

    Args:
        candidates: of `label_candidates`.
        weights: of the channels.
        max_candidates: per user.
    """
    if weights.values is not None:
        scores = F.col("channel_scores")
        # Added in the order of the channels: sums of floating-point numbers depend on it.
        merged = reduce(add, [scores[i] * F.lit(float(weight)) for i, weight in enumerate(weights.values)])
        score = F.when(F.col("is_warm"), merged).otherwise(scores[weights.cold_channel])
        candidates = candidates.withColumn("score", score.cast("double"))
    best_first = Window.partitionBy("user_id").orderBy(F.desc("score"), "item_id")
    return candidates.withColumn("rank", F.row_number().over(best_first)).where(F.col("rank") <= max_candidates)
