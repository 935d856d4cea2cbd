"""Fine ranking: train the online FM on the training set of a day: `millrace recsys fine --date D`.

It learns the training rows in the order of time and is measured on the validation rows; then it learns these, too, as
an online learner does at the end of a day, and is measured on the test rows; then it learns those. The last state is
what ranks the lists to serve and what a warm start continues from. Each row is predicted before it is learned from
(progressive validation): these metrics are logged per hour.
"""

import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conf import Config
from conf.clock import local_time
from conf.paths import Paths
from conf.runs import Run, finished_runs, start_run
from conf.versions import describe_version
from features.catalog import DENSE
from features.compatibility import TIMEZONE, OtherFeaturesError, check_features, check_timezone
from features.dataset.names import WEIGHT
from features.metrics.classification import click_metrics, row_log_losses
from recsys import calibration
from recsys.calibration import Calibrator
from recsys.dataset import (
    Rows,
    examples_folder,
    feature_statistics,
    parquet_files,
    read_files,
    read_rows,
    trained_run,
)
from recsys.fine.encode import FIELDS, Encoder, Statistics
from recsys.fine.fm import OnlineFM
from recsys.fine.linear_variants import build_variants, log_linear_variants
from recsys.fine.parallel import partial_fit_threads
from recsys.fine.sampling import list_ids, sample_weights
from recsys.fine.sharded import Examples, sharded
from recsys.settings import FMSettings, LinearVariantsSettings, RecommendSettings
from training.launch.ray_session import ray_session

log = logging.getLogger(__name__)

MODEL = "fm"
KEYS = ["user_id", "at_s"]
# The model that may score a split: one that has not learned its rows yet. "serve" has learned all.
MODEL_FILES = {"valid": "fm_valid.npz", "test": "fm_test.npz", "serve": "fm_serve.npz"}


@dataclass(frozen=True)
class FineRanker:
    """An FM with its encoder and calibrator."""

    model: OnlineFM
    encoder: Encoder
    calibrator: Calibrator
    learned_until: float = 0.0  # moment of the newest row that was learned from, in seconds since 1970

    def predict(self, rows: Rows) -> NDArray[np.float64]:
        """Predict calibrated click probabilities (rows,)."""
        return self.calibrator(self.raw_scores(rows))

    def raw_scores(self, rows: Rows) -> NDArray[np.float32]:
        """Predict what the calibrator makes probabilities of, (rows,), a block of rows at a time."""
        scores = np.empty(len(rows.label), np.float32)
        for block in rows.blocks():
            scores[block] = self.model.predict(self.encoder.encode(rows[block]))
        return scores

    def save(self, path: Path, statistics: Statistics) -> None:
        """Save to one file, whole or not at all; `statistics` are those of the data set that it was trained on."""
        curve = np.stack([self.calibrator.x, self.calibrator.y])
        extra = {"edges": self.encoder.raw_edges(statistics), "curve": curve, "features": np.array(FIELDS)}
        self.model.save(path, {**extra, "learned_until": np.array(self.learned_until)})


@dataclass(frozen=True)
class ShardFolders:
    """What the workers and actors of a sharded FM read and write."""

    examples: Path  # of the training set, with a subfolder per split
    snapshots: Path


def load(folder: Path, statistics: Statistics, split: str = "test") -> FineRanker:
    """Load the ranker of a run folder.

    Args:
        folder: of the run.
        statistics: of the data set whose rows it will score; they may differ from those of its training set.
        split: the rows it will score, valid, test or serve: see MODEL_FILES.

    Raises:
        UserError: the file is corrupt, or of other features.
    """
    model, extra = OnlineFM.load(folder / "model" / MODEL_FILES[split])
    # Files of older versions have no names; features are appended, so that fewer edges are those of the first ones.
    trained = extra.get("features", np.array(FIELDS[: len(FIELDS) - len(DENSE) + len(extra["edges"])]))
    check_features(folder, trained.tolist(), FIELDS)
    check_timezone(folder, str(statistics.get(TIMEZONE, "UTC")))
    encoder = Encoder.from_raw(extra["edges"], model.settings.bits, statistics)
    return FineRanker(model, encoder, Calibrator(*extra["curve"]), float(extra["learned_until"]))


def predictor(config: Config, day: date, split: str) -> Callable[[Rows], NDArray[np.float64]]:
    """Click probabilities (rows,) of rows by the day's newest fine ranker that has not learned from `split`.

    Raises:
        UserError: it was not trained for the day, or its file is corrupt.
    """
    return load(trained_run(config, MODEL, day), feature_statistics(config, day), split).predict


def run(config: Config, day: date) -> dict[str, Any]:
    """Train on the day's training set, and leave a run folder with the model before and after each held-out split.

    Returns:
        Run id, `progressive_log_loss` of the training rows, and `valid_<metric>` and `test_<metric>`.

    Raises:
        UserError: there is no training set for the day, settings exclude each other, or a linear variant names an
            unknown feature.
    """
    folder, statistics = examples_folder(config, day), feature_statistics(config, day)
    settings, linear = config.get(FMSettings), config.get(LinearVariantsSettings)
    variants = build_variants(linear)  # refuses an unknown feature now, not after the FM was trained
    with start_run(config, MODEL, day) as run, ray_session(config) if settings.shards else nullcontext():
        run.log_dataset(describe_version(folder))
        rows = read_rows(folder / "train", KEYS)
        shards = ShardFolders(folder, run.folder / "shards") if settings.shards else None
        start = _warm_start(config, day, statistics) if settings.warm_start else None
        ranker, progressive = train(rows, settings, start, shards)
        zone = str(statistics.get(TIMEZONE, "UTC"))
        report: dict[str, Any] = {"run_id": run.run_id, **_log_progress(run, rows, progressive, zone)}
        if variants or linear.field_importance:
            encoded = ranker.encoder.encode(rows)
            log_linear_variants(run, encoded, rows.label, 1 << settings.bits, variants, linear)
        for split in ("valid", "test"):
            rows = read_rows(folder / split, KEYS)  # in place of those before, which nothing needs any more
            report |= calibration.log_click_metrics(run, "fine", split, rows, ranker.predict(rows))
            if split == "valid":
                kind = config.get(RecommendSettings).calibration
                calibrator = calibration.fit(kind, rows.label, ranker.raw_scores(rows))
                ranker = replace(ranker, calibrator=calibrator)
            ranker.save(run.model_folder / MODEL_FILES[split], statistics)
            # In place, after it was saved and measured: the next split is newer.
            ranker, _ = partial_fit(ranker, rows, settings, shards, split)
        ranker.save(run.model_folder / MODEL_FILES["serve"], statistics)
        run.log_metric("fine", "train", "memory_bytes", ranker.model.memory_bytes, ranker.model.size)
    return report


def untrained(rows: Rows, settings: FMSettings) -> FineRanker:
    """Create a ranker that has learned nothing but how to bin the dense features of rows like these."""
    model = OnlineFM(settings, fields=len(FIELDS))
    return FineRanker(model, Encoder.fit(rows, settings.bins, settings.bits), calibration.IDENTITY)


def train(
    rows: Rows, settings: FMSettings, start: FineRanker | None = None, shards: ShardFolders | None = None
) -> tuple[FineRanker, NDArray[np.float32]]:
    """Train on the training rows in `fm.epochs` passes.

    Args:
        rows: in the order of time, with KEYS.
        settings: the section `fm`.
        start: the ranker to continue from, which skips rows that are not newer than its last one.
        shards: trains on Ray; see `partial_fit`.

    Returns:
        The ranker, without calibration, and (rows,) its predictions in the first pass before it learned from each row;
        NaN for rows that the warm start or the sub-sampling leaves out.
    """
    ranker = replace(start, calibrator=calibration.IDENTITY) if start else untrained(rows, settings)
    progressive = np.full(len(rows.label), np.nan, np.float32)
    for epoch in range(settings.epochs):
        ranker, predicted = partial_fit(ranker, rows, settings, shards, "train")
        # Later passes predict rows that were learned from: only the first is honest.
        progressive = predicted if epoch == 0 else progressive
    return ranker, progressive


def partial_fit(
    ranker: FineRanker, rows: Rows, settings: FMSettings, shards: ShardFolders | None = None, split: str = "train"
) -> tuple[FineRanker, NDArray[np.float32]]:
    """Train on rows in one pass, in order. The model is changed in place, unless it is sharded.

    Args:
        ranker: to continue from.
        rows: in the order of time, with KEYS.
        settings: the section `fm`.
        shards: spread the table over Ray actors, whose workers read the files of `split` themselves.
        split: the split that the rows are all of.

    Returns:
        The ranker, and (rows,) its predictions before it learned from each row; NaN for rows that are left out.
    """
    newest = float(rows.keys["at_s"].max()) if len(rows.label) else 0.0
    until = max(ranker.learned_until, newest)
    if shards:
        partitions = [
            partial(_read_examples, path, ranker.encoder, settings, ranker.learned_until)
            for path in parquet_files(shards.examples / split)
        ]
        with sharded(ranker.model, shards.snapshots) as sharded_model:
            predicted = np.concatenate(sharded_model.partial_fit(partitions, settings.shard_workers))
            return replace(ranker, model=sharded_model.to_model(), learned_until=until), predicted
    weight = _row_weights(rows, settings, ranker.learned_until)
    # Rows of weight 0 would still count as occurrences for inclusion.
    is_used = weight > 0
    used = rows if is_used.all() else rows[is_used]
    predicted = np.full(len(is_used), np.nan, np.float32)
    predicted[is_used] = _partial_fit_rows(ranker, used, weight[is_used])
    return replace(ranker, learned_until=until), predicted


def _partial_fit_rows(ranker: FineRanker, rows: Rows, weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Train the model in place; (rows,) what it predicted before."""
    model, settings = ranker.model, ranker.model.settings
    if settings.threads > 1:
        encoded = ranker.encoder.encode(rows)
        return partial_fit_threads(model, encoded, rows.label, weight, threads=settings.threads)
    if model.inclusion:  # counts the features of all rows before it learns from any
        return model.partial_fit(ranker.encoder.encode(rows), rows.label, weight)
    # The same numbers as in one go, and what is encoded stays small.
    parts = [
        model.partial_fit(ranker.encoder.encode(rows[block]), rows.label[block], weight[block])
        for block in rows.blocks()
    ]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _read_examples(path: Path, encoder: Encoder, settings: FMSettings, learned_until: float) -> Examples:
    """One file of a split, as a worker trains on it."""
    rows = read_files([path], KEYS)
    return Examples(encoder.encode(rows), rows.label, _row_weights(rows, settings, learned_until))


def _row_weights(rows: Rows, settings: FMSettings, learned_until: float) -> NDArray[np.float32]:
    """(rows,) 0 for rows that a warm start has learned already and for lists that the sub-sampling leaves out."""
    at = rows.keys["at_s"].to_numpy()
    weight = np.ones(len(at), np.float32)
    if settings.negative_rate < 1:
        # What one user was shown at one moment is a list.
        lists = list_ids(rows.keys["user_id"].to_numpy(), at)
        weight = sample_weights(rows.label, lists, settings.negative_rate, settings.seed)
    if WEIGHT in rows.keys:
        weight = weight * rows.keys[WEIGHT].to_numpy()
    return weight * (at > learned_until) if settings.warm_start else weight


def evaluate(ranker: FineRanker, rows: Rows) -> dict[str, float]:
    """AUC, GAUC, log loss and calibration error on rows with the key `user_id`, without learning from them."""
    return click_metrics(rows.label, ranker.predict(rows), rows.keys["user_id"])


def _log_progress(run: Run, rows: Rows, progressive: NDArray[np.float32], zone: str) -> dict[str, float]:
    """Log progressive log loss and click rate of each hour by the clocks of `zone` (as the split), and of all rows.

    Rows of a sampled training set count by their weights, which undo the sampling.
    """
    is_learned = ~np.isnan(progressive)
    if not is_learned.any():  # a warm start on a day that was learned before
        return {}
    label = rows.label[is_learned]
    losses = row_log_losses(label, progressive[is_learned])
    weight = np.ones(len(label))
    if WEIGHT in rows.keys:
        weight = rows.keys[WEIGHT].to_numpy(np.float64)[is_learned]
    hours, code = np.unique(clock_hours(rows.keys["at_s"].to_numpy()[is_learned], zone), return_inverse=True)
    sums = (np.bincount(code, values * weight) for values in (losses, label, 1.0))
    for split, loss, clicks, weights, count in zip(hours.tolist(), *sums, np.bincount(code), strict=True):
        run.log_metric("fine", split, "progressive_log_loss", loss / weights, int(count))
        run.log_metric("fine", split, "ctr", clicks / weights, int(count))
    overall = float(np.average(losses, weights=weight))
    run.log_metric("fine", "train", "progressive_log_loss", overall, int(is_learned.sum()))
    return {"progressive_log_loss": overall}


def clock_hours(at: NDArray[np.float64], zone: str) -> NDArray[np.str_]:
    """(rows,) the hour by the clocks of `zone`, as 2026-01-07T13, of moments in seconds since 1970.

    The hour that comes twice when clocks are set back is one: it has the rows of both.
    """
    # A conversion for each quarter of an hour and not for each row: all offsets of today's zones are multiples of it.
    quarters, code = np.unique(at // 900, return_inverse=True)
    moments = [datetime.fromtimestamp(quarter * 900, UTC) for quarter in quarters.tolist()]
    return np.array([local_time(moment, zone).strftime("%Y-%m-%dT%H") for moment in moments], dtype=np.str_)[code]


def _warm_start(config: Config, day: date, statistics: Statistics) -> FineRanker | None:
    """The newest ranker of an earlier day, as it served, if it was trained with the same settings."""
    settings = config.get(FMSettings)
    for run in reversed(finished_runs(config.get(Paths).runs)):
        if run["model"] == MODEL and date.fromisoformat(run["dt"]) < day:
            try:
                previous = load(run["folder"], statistics, "serve")
            except OtherFeaturesError as error:  # a new feature must not stop the day
                log.warning("fine: %s: starting anew", error)
                return None
            if previous.model.settings == settings:
                log.info("fine: continuing from %s", run["run_id"])
                return previous
            log.warning("fine: %s was trained with other settings: starting anew", run["run_id"])
            return None
    log.info("fine: no model of an earlier day: starting anew")
    return None
