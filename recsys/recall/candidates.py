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
from contextlib import ExitStack, contextmanager
from datetime import date, timedelta
from functools import reduce
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from conf import Config, Paths, UserError, file_url
from conf.clock import day_start
from conf.console.progress import waiting
from conf.runs import Run, start_run
from conf.versions import publish_version
from etl.settings import SiteSettings
from etl.spark_progress import spark_progress
from etl.stage import RowCounts, stage_run, total_counts
from etl.tables import dim, dwd, dws
from etl.warehouse.store import Warehouse
from features.catalog import OWN_COLUMNS
from features.compatibility import TIMEZONE
from features.compute.spark_own_columns import own_values
from features.dataset.acts import load_acts
from features.dataset.build import candidate_features, countable_rows, split_examples
from features.dataset.examples import has_rows, window_days
from features.dataset.names import examples_version
from features.dataset.parquet import select_dataset_columns, write_candidates
from features.dataset.splits import TIME_ORDERED
from features.metrics.spark import ranking_metrics
from features.settings import FeatureSettings
from recsys.dataset import HOT_ITEMS
from recsys.mf.vectors import load_factors
from recsys.recall.channels import channel_named
from recsys.recall.history import ITEM_COLUMNS, OWN_TEXTS, History
from recsys.recall.measure import log_channel_metrics, log_collected_metrics
from recsys.recall.merge import ChannelWeights, fit_channel_weights
from recsys.recall.positives import Positives, collect_positives
from recsys.recall.proposer import MF, PAIR_SCHEMA, Proposer, Truth, Users, read_ranks
from recsys.settings import RecallSettings, RecommendSettings

log = logging.getLogger(__name__)

KIND = "candidates"
COLUMNS = ["user_id", "item_id", "channels", "score"]
# The factorisation that learned from no later row than channels that are fitted on these splits.
FACTORS_OF = {("train",): "valid", ("train", "valid"): "test", ("train", "valid", "test"): "serve"}
LABELLED_BY = {"fit": "valid", "holdout": "test"}  # set -> split whose positives its lists are compared with


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
    with stage_run(warehouse, "recall", [day]) as row_counts, day_data(warehouse, config, day, examples) as data:
        metadata: dict[str, Any] = {"split": examples["split"], "examples": examples["version"], TIMEZONE: data.zone}
        metadata["exclude"] = data.recall.exclude  # what a server leaves out, too
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
    with day_data(Warehouse(spark, config), config, day, examples) as data:
        proposer, truth = data.proposer("train"), data.truth(("train",), "valid")
        weights, _ = _fit_weights(data, proposer, truth)
        if split != "valid":
            proposer, truth = data.proposer("train", "valid"), data.truth(("train", "valid"), split)
        proposed = proposer.propose(truth.users(), weights, data.recall.keep)
        ranked = proposed.select(F.lit("merged").alias("list"), "user_id", "item_id", "rank")
        metrics = ranking_metrics(ranked, truth.frame, config.get(RecommendSettings).ks)
    return {f"{metric}@{k}": value for (_, metric, k), value in metrics.items()}


class _DayData:
    """What the sets of a day are made from."""

    def __init__(self, warehouse: Warehouse, config: Config, day: date, metadata: Mapping[str, Any], scratch: Path):
        """Read the examples, and the positives into the driver where `recall.driver_positives` allows.

        Args:
            warehouse: of the examples, users and items.
            config: all settings.
            day: the day.
            metadata: of its training set.
            scratch: an existing folder that workers can read.
        """
        self.warehouse, self.config, self.day, self.scratch = warehouse, config, day, scratch
        self.split: str = metadata["split"]  # name of the split: day, time, random …
        self.statistics: dict[str, Any] = metadata["statistics"]  # of the training rows
        self.zone: str = metadata.get(TIMEZONE, "UTC")  # of the training set's days and hours
        self.recall, self.ks = config.get(RecallSettings), config.get(RecommendSettings).ks
        self.examples = split_examples(warehouse, config.get(FeatureSettings), day, self.split)
        self.positives = self.examples.where(F.col("label") == 1).select("user_id", "item_id", "at", "split")
        self._persisted = [self.examples]
        self._days = window_days(config.get(FeatureSettings), day) if self.split == "day" else None
        self._pairs: dict[tuple[str, ...], DataFrame | pd.DataFrame] = {}  # of `_excluded`
        self._proposers: list[Proposer] = []
        seconds, is_positive = F.col("at").cast("double"), F.col("label") == 1
        columns = [F.min(seconds).alias("start"), F.max(F.when(is_positive, seconds)).alias("newest")]
        counted = F.count_if(is_positive).alias("positives")
        columns.append(F.count("*").alias("rows"))
        rows = self.examples.groupBy("split").agg(*columns, counted).collect()
        self.starts: dict[str, float] = {row["split"]: row["start"] for row in rows}  # when a split's first row was
        self._newest: dict[str, float] = {row["split"]: row["newest"] or 0.0 for row in rows}  # its last positive
        self.users = warehouse.newest_snapshot(dim.user, day).select("user_id")
        self.num_users = self.users.count()
        num_shown = sum(row["rows"] for row in rows) if self.recall.exclude == "shown" else 0
        self.collected = self._collect(max(num_shown, sum(row["positives"] for row in rows)))
        items = warehouse.newest_snapshot(dim.item, day)
        if OWN_TEXTS:
            items = items.withColumns(own_values(OWN_COLUMNS.of_owner("item"), F.col("attributes")))
        self.items = items.select(*ITEM_COLUMNS, *OWN_TEXTS).toPandas()

    def truth(self, before: tuple[str, ...], after: str) -> Truth:
        """Positives of the split `after` that lists may have: what `recall.exclude` leaves out of them is no miss."""
        excluded = self._excluded(before)
        if self.collected is not None:
            chosen = self.collected.of_splits(*before if excluded is None else ())
            pairs = self.collected.of_splits(after).pairs(without=chosen)
            if isinstance(excluded, pd.DataFrame):
                is_excluded = pd.MultiIndex.from_frame(pairs).isin(pd.MultiIndex.from_frame(excluded))
                pairs = pairs[~is_excluded].reset_index(drop=True)
            return Truth(self.warehouse.spark.createDataFrame(pairs, PAIR_SCHEMA), pairs)
        earlier = self.positives.where(F.col("split").isin(*before)) if excluded is None else excluded
        later = self.positives.where(F.col("split") == after).select("user_id", "item_id").distinct()
        return Truth(self._persist(later.join(earlier, on=["user_id", "item_id"], how="left_anti")), None)

    def proposer(self, *splits: str) -> Proposer:
        """The channels fitted on the positives of `splits`."""
        positives = self.positives.where(F.col("split").isin(*splits)).drop("split")
        collected = self.collected.of_splits(*splits) if self.collected else None
        now = max([self._newest.get(split, 0.0) for split in splits])
        factors = load_factors(self.config, self.day, FACTORS_OF[splits]) if MF in self.recall.quota else None
        history = History(
            positives, self.items, now, self.recall,
            collected=collected, factors=factors, excluded=self._excluded(splits),
        )  # fmt: skip
        self._proposers.append(Proposer(self.warehouse.spark, history, self.ks, self.scratch))
        return self._proposers[-1]

    def all_users(self) -> Users:
        """Users of the day's snapshot."""
        if self.collected is None:
            return self.users
        return np.sort(np.asarray(self.users.toArrow()["user_id"].to_numpy(), object))

    def count_active(self, users: Users) -> int:
        """How many of `users` have a positive."""
        if isinstance(users, DataFrame):
            return users.join(self.positives, on="user_id", how="left_semi").count()
        assert self.collected is not None
        return int(np.isin(users.astype(str), self.collected.user_ids.astype(str)).sum())

    def close(self) -> None:
        """Free what is persisted."""
        for proposer in self._proposers:
            proposer.close()
        for frame in self._persisted:
            frame.unpersist()

    def _excluded(self, splits: tuple[str, ...]) -> DataFrame | pd.DataFrame | None:
        """Distinct user_id and item_id of `splits` that lists leave out, collected where positives are.

        None for the positives, which nobody needs to read twice.
        """
        if self.recall.exclude == "clicked" or splits in self._pairs:
            return self._pairs.get(splits)
        before = self.examples.where(F.col("split").isin(*splits))
        match self.recall.exclude:
            case "shown" if has_rows(self.warehouse, dwd.impression, self._days):
                rows = before
            case "shown":  # sampled negatives were not shown
                rows = before.where(F.col("label") == 1)
            case "bought":
                rows = self._purchases(before, splits)
            case _:
                rows = before.limit(0)
        pairs = rows.select("user_id", "item_id").distinct()
        self._pairs[splits] = self._persist(pairs) if self.collected is None else pairs.toPandas()
        return self._pairs[splits]

    def _purchases(self, before: DataFrame, splits: tuple[str, ...]) -> DataFrame:
        """Interactions that are purchases and were made when `splits` were over."""
        if not has_rows(self.warehouse, dwd.interaction, self._days):
            return before.limit(0)
        bought = self.warehouse.read(dwd.interaction, self._days).where(F.col("action") == "purchase")
        if self.split not in TIME_ORDERED:
            return bought.join(before.where(F.col("label") == 1), on=["user_id", "item_id"], how="left_semi")
        later = [start for split, start in self.starts.items() if split not in splits]
        return bought.where(F.col("acted_at").cast("double") < min(later)) if later else bought

    def _persist(self, frame: DataFrame) -> DataFrame:
        self._persisted.append(frame.persist())
        return frame

    def _collect(self, num_positives: int) -> Positives | None:
        limit = self.recall.driver_positives
        if max(num_positives, self.num_users) <= limit:
            return collect_positives(self.positives)
        log.info(
            "recall %s: %d positives of %d users are more than recall.driver_positives=%d: all stays on Spark",
            self.day, num_positives, self.num_users, limit,
        )  # fmt: skip
        return None


@contextmanager
def day_data(warehouse: Warehouse, config: Config, day: date, metadata: Mapping[str, Any]) -> Iterator[_DayData]:
    """What the sets of a day are made from, until the block ends.

    Raises:
        UserError: the training set has days of another time zone.
    """
    zone, declared = metadata.get(TIMEZONE, "UTC"), config.get(SiteSettings).zone
    if zone != declared:  # the examples of the warehouse would be on other days than those of the training set
        raise UserError(
            f"the training set of {day} has hours and days of {zone}, site.timezone is {declared}: build it again by "
            f"`millrace features build --date {day}`"
        )
    # Under the home, which workers of a cluster share.
    temporary = config.get(Paths).root / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=temporary, prefix="recall-") as scratch, ExitStack() as stack:
        data = _DayData(warehouse, config, day, metadata, Path(scratch))
        stack.callback(data.close)
        yield data


def _fit_weights(data: _DayData, proposer: Proposer, truth: Truth) -> tuple[ChannelWeights, int]:
    """The channels' weights, from proposals labelled by what users chose later, and the number of these."""
    sample = proposer.fit_sample(truth)
    weights = fit_channel_weights(sample, proposer.channels, data.recall.learn_at, proposer.cold_channel)
    return weights, len(sample)


def _fit_set(data: _DayData, run: Run) -> tuple[ChannelWeights, DataFrame]:
    """The channels' weights, which are logged, and the set `fit`."""
    proposer, truth = data.proposer("train"), data.truth(("train",), "valid")
    weights, num_rows = _fit_weights(data, proposer, truth)
    if weights.values is not None:
        for channel, value in zip(proposer.channels, weights.values, strict=True):
            run.log_metric("recall", "valid", "weight", value, num_rows, model=channel)
    candidates = proposer.propose(truth.users(), weights, data.recall.keep).select(*COLUMNS)
    labels = truth.frame.withColumn("label", F.lit(1))
    labels = labels if truth.collected is None else F.broadcast(labels)  # else Spark sorts what the driver counted
    return weights, candidates.join(labels, on=["user_id", "item_id"], how="left").fillna({"label": 0})


def _holdout_set(data: _DayData, weights: ChannelWeights, folder: Path, run: Run) -> DataFrame:
    """The set `holdout`, whose channels are measured; its positives and items are written beside it."""
    proposer, truth = data.proposer("train", "valid"), data.truth(("train", "valid"), "test")
    users = truth.users()
    if isinstance(users, DataFrame):
        candidates = proposer.propose(users, weights, data.recall.keep)
        log_channel_metrics(candidates, truth.frame, proposer.channels, data.ks, run)
    else:
        file = proposer.write(users, weights, data.recall.keep)
        log_collected_metrics(read_ranks(file), truth.pairs(), proposer.channels, data.ks, run)
        candidates = proposer.read(file)
    # One file, which ranking reads with pandas: users of the test rows are few.
    truth.frame.coalesce(1).write.parquet(file_url(folder / "positives.parquet"))
    items = proposer.history.items.assign(popularity=proposer.history.popularity)
    items[["item_id", "category", "author", "published_at", "popularity"]].to_parquet(folder / "items.parquet")
    return candidates.select(*COLUMNS, F.lit(0).alias("label"))


def _serve_set(data: _DayData, weights: ChannelWeights, folder: Path) -> tuple[DataFrame, int]:
    """The set `serve`, which is written to dws_recall_candidate too, and its number of rows; hot items beside it."""
    # Users without a history as well: one channel ranks for them.
    users = data.all_users()
    num_active = data.count_active(users)
    proposer = data.proposer("train", "valid", "test")
    if num_active < data.num_users:
        log.info(
            "%d of %d users chose nothing in the %d days up to %s (features.window_days): %s ranks for them",
            data.num_users - num_active,
            data.num_users,
            data.config.get(FeatureSettings).window_days,
            data.day,
            proposer.cold_channel,
        )
    candidates = proposer.propose(users, weights, data.recall.keep)
    rows = dws.recall_candidate.with_partition(candidates.select(*COLUMNS, "rank"), data.day)
    num_rows = data.warehouse.write(dws.recall_candidate, rows, [data.day], rebalance=False)[data.day]
    history = proposer.history
    history.items[["item_id", "published_at"]].assign(heat=history.heat).to_parquet(folder / HOT_ITEMS)
    return candidates.select(*COLUMNS, F.lit(0).alias("label")), num_rows


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
    acts = load_acts(data.warehouse, settings, data.day, data.split, data.examples)
    features = candidate_features(data.warehouse, settings, data.day, pairs, counted, data.statistics, acts)
    write_candidates(select_dataset_columns(features, [*COLUMNS, "part"]), folder, list(sets), settings)


def _shown_at(data: _DayData, set_name: str) -> float:
    """The moment that the features of a set's candidates are computed for, in seconds since 1970.

    Where splits follow time, it is when the rows begin whose positives label the set: features must not count later
    rows. In other splits these rows are of all times, and candidates are shown after the day, as those to serve are.
    """
    split = LABELLED_BY.get(set_name)
    if split and data.split in TIME_ORDERED:
        return data.starts[split]
    return day_start(data.day + timedelta(days=1), data.zone).timestamp()
