"""The recall stage: candidates of a day with their features, for rankers to learn from, to be measured, and to serve.

Three sets are published under `datasets/candidates/dt=…/`:
  fit      for users of the validation rows, from the training rows, labelled by what they chose: the weights of the
           channels and the blend of the rankers are learned here;
  holdout  for users of the test rows, from all before them, beside what they chose (`positives.parquet`) and the
           items that there were (`items.parquet`);
  serve    for every known user, from all that is known.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from conf import Config, Paths, file_url
from conf.runs import Run, start_run
from conf.versions import current_version, publish_version
from etl.session import run_concurrently
from etl.stage import RowCounts, stage_run, total_counts
from etl.tables import dim, dws
from etl.warehouse.store import Warehouse
from features.dataset.build import candidate_features, countable_rows, split_examples
from features.dataset.names import EXAMPLES
from features.dataset.parquet import select_dataset_columns, write_candidates
from features.dataset.sampling import hash_uniform
from features.dataset.splits import TIME_ORDERED
from features.metrics.spark import ranking_metrics
from features.settings import FeatureSettings
from recsys.recall import channel_of
from recsys.recall.history import History
from recsys.recall.measure import measure_channels
from recsys.recall.merge import Weights, learn_weights
from recsys.recall.propose import Plan, propose
from recsys.settings import RecallSettings, RecommendSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyspark.sql import DataFrame, SparkSession

KIND = "candidates"
KEYS = ["user_id", "item_id", "channels", "score"]
FIT_ROWS = 1_000_000  # candidates that weights are learned from


def run(spark: "SparkSession", config: Config, day: date, *, serve: bool = True) -> dict[str, Any]:
    """Recall for the split that the day's training set was built with; needs `features build`.

    Without `serve` there are no candidates for lists to publish: an evaluation wants none.
    """
    paths = config.get(Paths)
    for name in config.get(RecallSettings).quota:
        channel_of(name)
    _, about = current_version(paths.datasets(EXAMPLES, day), command=f"millrace features build --date {day}")
    warehouse = Warehouse(spark, config)
    with stage_run(warehouse, "recall", [day]) as counts:
        written = 0
        held: list[DataFrame] = []
        told: dict[str, Any] = {"split": about["split"], "examples": about["version"]}
        rows = split_examples(warehouse, config.get(FeatureSettings), day, about["split"]).persist()
        try:
            with (
                publish_version(paths.datasets(KIND, day), told) as folder,
                start_run(config, "recall", day) as found,
            ):
                maker = _Maker(warehouse, config, day, rows, about, held)
                weights, fit = maker.fit(found)
                sets = {"fit": fit, "holdout": maker.holdout(folder, weights, found)}
                if serve:
                    sets["serve"], written = maker.serve(weights)
                maker.write(sets, folder)
                told["sources"] = warehouse.sources()
        finally:
            for frame in (rows, *held):
                frame.unpersist()
        counts[day] = RowCounts(rows_in=written, rows_out=written)
    return total_counts(counts)


def measure(spark: "SparkSession", config: Config, day: date, split: str) -> dict[str, float]:
    """Recall, nDCG and the like, as `recall@50`, of the merged lists on `valid` or `test` rows; nothing is written.

    The weights of the channels are learned from the validation rows in either case.
    """
    paths = config.get(Paths)
    warehouse = Warehouse(spark, config)
    _, about = current_version(paths.datasets(EXAMPLES, day), command=f"millrace features build --date {day}")
    held: list[DataFrame] = []
    rows = split_examples(warehouse, config.get(FeatureSettings), day, about["split"]).persist()
    try:
        return _Maker(warehouse, config, day, rows, about, held).measured(split)
    finally:
        for frame in (rows, *held):
            frame.unpersist()


@dataclass(frozen=True)
class _Maker:
    """Makes the three sets of a day from its examples with their split."""

    warehouse: Warehouse
    config: Config
    day: date
    rows: "DataFrame"
    about: "Mapping[str, Any]"
    held: "list[DataFrame]"
    """Frames that are kept until all is written."""

    def fit(self, found: Run) -> "tuple[Weights, DataFrame]":
        """Candidates labelled by the validation rows, and the weights that they teach."""
        truth, labelled, weights, sampled = self._learned()
        for name, value in zip(
            self._settings.quota, weights.values if weights.values is not None else (), strict=False
        ):
            found.log_metric("recall", "valid", "weight", value, sampled, model=name)
        truth.unpersist()
        return weights, _rescored(labelled, weights, self._settings.keep).select(*KEYS, "label")

    def measured(self, split: str) -> dict[str, float]:
        """Numbers of the merged lists of the users of a split."""
        truth, ranked, weights, _ = self._learned()
        if split == "valid":
            kept = _rescored(ranked, weights, self._settings.keep)
            ranked = kept.selectExpr("user_id", "item_id", "nth as rank")
        else:
            known, truth = self._known_and_truth(("train", "valid"), split)
            users = truth.select("user_id").distinct()
            ranked = self._propose(known, users, weights, keep=self._settings.keep)[1]
        self.held.append(truth)
        lists = ranked.selectExpr("'merged' as list", "user_id", "item_id", "rank")
        numbers = ranking_metrics(lists, truth, self.config.get(RecommendSettings).ks)
        return {f"{metric}@{k}": value for (_, metric, k), value in numbers.items()}

    def _learned(self) -> "tuple[DataFrame, DataFrame, Weights, int]":
        """The validation rows' positives, candidates labelled by them, the weights that they teach and from how many
        candidates.
        """
        known, truth = self._known_and_truth(("train",), "valid")
        names = list(self._settings.quota)
        history, proposed = self._propose(known, truth.select("user_id").distinct(), Weights(None, 0), keep=None)
        label = truth.selectExpr("*", "1 as label")
        warm = known.selectExpr("user_id", "true as is_warm").distinct()
        labelled = (
            proposed.join(label, on=["user_id", "item_id"], how="left")
            .join(warm, on="user_id", how="left")
            .fillna({"label": 0, "is_warm": False})
            .persist()
        )
        self.held.append(labelled)
        # Users without a history are ranked by what is hot, whatever the weights.
        sample = _some_users(labelled.where("is_warm"))
        weights = learn_weights(sample, names, self._settings.learn_at)
        history.unpersist()
        return truth, labelled, weights, len(sample)

    def holdout(self, folder: Path, weights: Weights, found: Run) -> "DataFrame":
        """Candidates for the users of the test rows; measures what each channel recalled."""
        known, truth = self._known_and_truth(("train", "valid"), "test")
        history, proposed = self._propose(known, truth.select("user_id").distinct(), weights, keep=self._settings.keep)
        ks = self.config.get(RecommendSettings).ks
        measure_channels(proposed, truth, list(self._settings.quota), ks, found)
        truth.coalesce(1).write.parquet(file_url(folder / "positives.parquet"))
        items = history.items.assign(popularity=history.popularity)
        items[["item_id", "category", "published_at", "popularity"]].to_parquet(folder / "items.parquet")
        truth.unpersist()
        history.unpersist()
        return proposed.selectExpr(*KEYS, "0 as label")

    def serve(self, weights: Weights) -> "tuple[DataFrame, int]":
        """Candidates for every known user, from all that is known at the end of the day, and how many."""
        known = self.rows.where("label = 1").select("user_id", "item_id", "at")
        users = self.warehouse.newest_snapshot(dim.user, self.day).select("user_id")
        history, proposed = self._propose(known, users, weights, keep=self._settings.keep)
        table = proposed.selectExpr(*KEYS, "rank", f"'{self.day.isoformat()}' as dt")
        written = self.warehouse.write(dws.recall_candidate, table, [self.day])[self.day]
        history.unpersist()
        return proposed.selectExpr(*KEYS, "0 as label"), written

    def write(self, sets: "Mapping[str, DataFrame]", folder: Path) -> None:
        """The features of all sets, in one pass, each set to a folder of its name."""
        settings, split = self.config.get(FeatureSettings), self.about["split"]
        marked = [
            pairs.selectExpr("*", f"'{name}' as part", f"timestamp_seconds({self._shown_at(name)!r}D) as at")
            for name, pairs in sets.items()
        ]
        pairs = reduce(lambda a, b: a.unionByName(b), marked)
        known = countable_rows(self.rows, split)
        features = candidate_features(self.warehouse, settings, self.day, pairs, known, self.about["statistics"])
        write_candidates(select_dataset_columns(features, [*KEYS, "part"]), folder, list(sets), settings)

    def _shown_at(self, name: str) -> float:
        """When the candidates of a set are shown, in seconds.

        Where splits follow time: when the rows begin whose clicks they are held against. In other splits these rows are
        of all times, and candidates are shown after everything.
        """
        split = {"fit": "valid", "holdout": "test"}.get(name)
        if split and self.about["split"] in TIME_ORDERED:
            rows = self.rows.where(self.rows["split"] == split)
            return float(rows.selectExpr("min(cast(at as double))").collect()[0][0])
        return datetime.combine(self.day + timedelta(days=1), datetime.min.time(), UTC).timestamp()

    @property
    def _settings(self) -> RecallSettings:
        return self.config.get(RecallSettings)

    def _known_and_truth(self, before: tuple[str, ...], then: str) -> "tuple[DataFrame, DataFrame]":
        """Positives of the splits `before`; and those of the split `then` that are new to their users."""
        positives = self.rows.where("label = 1")
        known = positives.where(positives["split"].isin(*before)).select("user_id", "item_id", "at")
        truth = positives.where(positives["split"] == then).select("user_id", "item_id").distinct()
        return known, truth.join(known, on=["user_id", "item_id"], how="left_anti").persist()

    def _propose(
        self, known: "DataFrame", users: "DataFrame", weights: Weights, *, keep: int | None
    ) -> "tuple[History, DataFrame]":
        """Candidates: the best `keep` of each user, or all that the channels' quotas let through."""
        settings = self._settings
        now = known.selectExpr("max(cast(at as double))").collect()[0][0]
        history = History(known, self.warehouse.newest_snapshot(dim.item, self.day), now or 0.0, settings)
        scorers = run_concurrently(*[partial(channel_of(name), history, settings) for name in settings.quota])
        plan = Plan(
            dict(zip(settings.quota, scorers, strict=True)),
            settings.quota,
            weights,
            history.items["item_id"].to_numpy(dtype=object),
            keep,
            max(*self.config.get(RecommendSettings).ks, *settings.quota.values()),
            settings.history_half_life_days,
        )
        proposed = propose(history, users, plan).persist()
        self.held.append(proposed)
        return history, proposed


def _some_users(labelled: "DataFrame") -> pd.DataFrame:
    """All candidates of as many users as FIT_ROWS allows, drawn by a hash, in a fixed order."""
    share = min(1.0, FIT_ROWS / max(labelled.count(), 1))
    drawn = labelled.where(hash_uniform("user_id") < share)
    found: pd.DataFrame = drawn.select("user_id", "item_id", "scores", "label").toPandas()
    return found.sort_values(["user_id", "item_id"], ignore_index=True)


def _rescored(labelled: "DataFrame", weights: Weights, keep: int) -> "DataFrame":
    """The best `keep` of each user by the merged score that the learned weights give, as the other sets have it."""
    if weights.values is not None:
        terms = " + ".join(f"scores[{i}] * {float(value)!r}D" for i, value in enumerate(weights.values))
        score = f"cast(if(is_warm, {terms}, scores[{weights.fallback}]) as double) as score"
        labelled = labelled.selectExpr("* except (score)", score)
    nth = "row_number() over (partition by user_id order by score desc, item_id)"
    return labelled.selectExpr("*", f"{nth} as nth").where(f"nth <= {keep}")
