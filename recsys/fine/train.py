"""Fine ranking: train the online FM on the training set of a day: `millrace recsys fine --date D`.

It learns the training rows in the order of time and is measured on the validation rows; then it learns these, too, as
an online learner does at the end of a day, and is measured on the test rows; then it learns those. The last state is
what ranks the lists to serve and what a warm start goes on from. Each row is predicted before it is learned from
(progressive validation): these numbers are logged per hour.
"""

import logging
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conf import Config
from conf.paths import Paths
from conf.runs import Run, finished_runs, start_run
from conf.versions import describe_version
from features.dataset.names import WEIGHT
from features.metrics.classification import click_metrics, log_loss, row_log_losses
from recsys import calibration
from recsys.dataset import Rows, examples_folder, files_of, read_files, read_rows, statistics_of
from recsys.fine.encode import Encoder, Statistics
from recsys.fine.fm import FM
from recsys.fine.sampling import sample_weights
from recsys.fine.sharded import Examples, sharded
from recsys.settings import FMSettings, RecommendSettings
from training.launch.ray_session import ray_session

log = logging.getLogger(__name__)

MODEL = "fm"
KEYS = ["user_id", "at_s"]
# States of the model by what they may score: without the validation rows, without the test rows, with all.
STATES = {"valid": "fm_valid.npz", "test": "fm_test.npz", "serve": "fm_serve.npz"}


@dataclass(frozen=True)
class Fine:
    """A model, how rows become its features, and the curve that makes its scores agree with click rates."""

    model: FM
    encoder: Encoder
    curve: calibration.Calibrator
    learned_until: float = 0.0

    def predict(self, rows: Rows) -> NDArray[np.float64]:
        """Click probabilities (n,)."""
        return self.curve(self.model.predict(self.encoder.encode(rows)))

    def save(self, path: Path, statistics: Statistics) -> None:
        """Whole or not at all; see `FM.save`."""
        extra = {"edges": self.encoder.raw_edges(statistics), "curve": np.stack([self.curve.x, self.curve.y])}
        self.model.save(path, {**extra, "learned_until": np.array(self.learned_until)})


@dataclass(frozen=True)
class Shards:
    """Where the splits of the examples are, and where actors may write their snapshots."""

    examples: Path
    snapshots: Path


def load(folder: Path, statistics: Statistics, state: str = "test") -> Fine:
    """The ranker of a run folder, for a data set with these statistics. Raises UserError for a corrupt file."""
    model, extra = FM.load(folder / "model" / STATES[state])
    encoder = Encoder.from_raw(extra["edges"], model.settings.bits, statistics)
    return Fine(model, encoder, calibration.Calibrator(*extra["curve"]), float(extra["learned_until"]))


def run(config: Config, day: date) -> dict[str, Any]:
    """Train, measure, and leave a run folder with the model as measured and as it serves."""
    folder, statistics = examples_folder(config, day), statistics_of(config, day)
    settings = config.get(FMSettings)
    with start_run(config, MODEL, day) as run, ray_session(config) if settings.shards else nullcontext():
        run.log_dataset(describe_version(folder))
        parts = {split: read_rows(folder / split, KEYS) for split in ("train", "valid", "test")}
        shards = Shards(folder, run.folder / "shards") if settings.shards else None
        start = _warm_start(config, day, statistics) if settings.warm_start else None
        fine, progressive = train(parts["train"], settings, start, shards)
        report: dict[str, Any] = {"run_id": run.run_id, **_log_progress(run, parts["train"], progressive)}
        kind = config.get(RecommendSettings).calibration
        for split in ("valid", "test"):
            rows = parts[split]
            report |= calibration.log_clicks(run, "fine", split, rows, fine.predict(rows))
            if split == "valid":
                raw = fine.model.predict(fine.encoder.encode(rows))
                fine = replace(fine, curve=calibration.fit(kind, rows.label, raw))
            fine.save(run.model_folder / STATES[split], statistics)
            fine, _ = learn(fine, rows, settings, shards, split)
        fine.save(run.model_folder / STATES["serve"], statistics)
        run.log_metric("fine", "train", "memory_bytes", fine.model.memory_bytes, fine.model.size)
    return report


def new(rows: Rows, settings: FMSettings) -> Fine:
    """A ranker that has learned nothing but how to encode rows like these."""
    model = FM(settings, fields=rows.sparse.shape[1] + rows.dense.shape[1])
    return Fine(model, Encoder.fit(rows, settings.bins, settings.bits), calibration.IDENTITY)


def train(
    rows: Rows, settings: FMSettings, start: Fine | None = None, shards: Shards | None = None
) -> tuple[Fine, NDArray[np.float32]]:
    """Learn the rows (those newer than `start` was); returns the ranker and what it predicted before learning each.

    Predictions are NaN for rows that a warm start or the sub-sampling leaves out.
    """
    fine = replace(start, curve=calibration.IDENTITY) if start else new(rows, settings)
    progressive = np.full(len(rows.label), np.nan, np.float32)
    for number in range(settings.epochs):
        fine, predicted = learn(fine, rows, settings, shards, "train")
        progressive = predicted if number == 0 else progressive
    return fine, progressive


def learn(
    fine: Fine, rows: Rows, settings: FMSettings, shards: Shards | None = None, split: str = "train"
) -> tuple[Fine, NDArray[np.float32]]:
    """Learn rows that are newer than what was learned; returns what was predicted before, NaN for rows left out.

    With `shards`, workers read the files of `split`, which hold these rows, and the table lives in Ray actors.
    """
    until = max(fine.learned_until, float(rows.keys["at_s"].max())) if len(rows.label) else fine.learned_until
    if shards:
        parts = [
            partial(_examples, path, fine.encoder, settings, fine.learned_until)
            for path in files_of(shards.examples / split)
        ]
        with sharded(fine.model, shards.snapshots) as table:
            predicted = np.concatenate(table.learn(parts, settings.shard_workers))
            return replace(fine, model=table.collect(), learned_until=until), predicted
    weight = _weights(rows, settings, fine.learned_until)
    is_sampled = weight > 0
    chosen = Rows(rows.sparse[is_sampled], rows.dense[is_sampled], rows.label[is_sampled], {})
    predicted = np.full(len(is_sampled), np.nan, np.float32)
    encoded = fine.encoder.encode(chosen)
    predicted[is_sampled] = fine.model.learn(encoded, chosen.label, weight[is_sampled], threads=settings.threads)
    return replace(fine, learned_until=until), predicted


def _examples(path: Path, encoder: Encoder, settings: FMSettings, learned_until: float) -> Examples:
    """One file, as a worker learns it."""
    rows = read_files([path], KEYS)
    return Examples(encoder.encode(rows), rows.label, _weights(rows, settings, learned_until))


def _weights(rows: Rows, settings: FMSettings, learned_until: float) -> NDArray[np.float32]:
    """Weight of each row: 0 for what a warm start knows already and for lists that the sub-sampling leaves out."""
    at = rows.keys["at_s"].to_numpy()
    weight = np.ones(len(at), np.float32)
    if settings.negative_rate < 1:
        lists = np.unique(np.stack([rows.keys["user_id"].factorize()[0], at]), axis=1, return_inverse=True)[1]
        weight = sample_weights(rows.label, lists, settings.negative_rate, settings.seed)
    if WEIGHT in rows.keys:
        weight = weight * rows.keys[WEIGHT].to_numpy()
    return weight * (at > learned_until) if settings.warm_start else weight


def measure(fine: Fine, rows: Rows) -> dict[str, float]:
    """AUC, GAUC, log loss and calibration error, without learning."""
    return click_metrics(rows.label, fine.predict(rows), rows.keys["user_id"])


def _log_progress(run: Run, rows: Rows, progressive: NDArray[np.float32]) -> dict[str, float]:
    """Progressive log loss and click rate of each hour, and over all."""
    is_learned = ~np.isnan(progressive)
    if not is_learned.any():
        return {}
    losses = row_log_losses(rows.label[is_learned], progressive[is_learned])
    hours, place = np.unique(rows.keys["at_s"].to_numpy()[is_learned] // 3600, return_inverse=True)
    counts = np.bincount(place)
    for hour, loss, clicks, count in zip(
        hours, np.bincount(place, losses), np.bincount(place, rows.label[is_learned]), counts, strict=True
    ):
        when = datetime.fromtimestamp(hour * 3600, UTC).strftime("%Y-%m-%dT%H")
        run.log_metric("fine", when, "progressive_log_loss", loss / count, int(count))
        run.log_metric("fine", when, "ctr", clicks / count, int(count))
    overall = log_loss(rows.label[is_learned], progressive[is_learned])
    run.log_metric("fine", "train", "progressive_log_loss", overall, int(is_learned.sum()))
    return {"progressive_log_loss": overall}


def _warm_start(config: Config, day: date, statistics: Statistics) -> Fine | None:
    """The newest served state of an earlier day with the same settings, to go on from."""
    settings = config.get(FMSettings)
    for run in reversed(finished_runs(config.get(Paths).runs)):
        if run["model"] == MODEL and date.fromisoformat(run["dt"]) < day:
            previous = load(run["folder"], statistics, "serve")
            if previous.model.settings == settings:
                log.info("fine: going on from %s", run["run_id"])
                return previous
            log.warning("fine: %s was trained with other settings: starting anew", run["run_id"])
            return None
    log.info("fine: no model of an earlier day: starting anew")
    return None
