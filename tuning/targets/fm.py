"""Searching the online FM: a trial learns the training rows in the order of time and is measured at each step."""

import json
import time
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from conf import Config
from recsys.dataset import Rows, examples_folder, feature_statistics, read_rows
from recsys.fine.train import KEYS, FineRanker, evaluate, load, partial_fit, train, untrained
from recsys.settings import FMSettings
from tuning.targets.rows import part_of, shared
from tuning.targets.target import Target
from tuning.targets.trial import Trial
from tuning.targets.value import ListValue, list_value

STATE = "state.json"


@dataclass(frozen=True)
class FMData:
    """Rows that all trials read, and the feature statistics of the training rows."""

    train: Rows
    valid: Rows
    statistics: dict[str, Any]
    value: ListValue | None
    """Judges lists, where these are what is searched for."""


class FactorisationMachine(Target):
    """`millrace tune fm`."""

    family = "fm"
    metric = "log_loss"
    on_spark = False
    can_change = True

    def data(self, config: Config, day: date) -> FMData:
        folder = examples_folder(config, day)
        train, valid = (shared(read_rows(folder / split, KEYS)) for split in ("train", "valid"))
        return FMData(train, valid, dict(feature_statistics(config, day)), list_value(config, day, "valid"))

    def newest(self, data: FMData, share: float) -> FMData:
        train = part_of(data.train, 1 - share, 1.0)  # rows are in the order of time
        return replace(data, train=train)

    def run(self, config: Config, data: FMData, trial: Trial) -> None:
        settings = config.get(FMSettings)
        if trial.restored is None:
            fine, done = untrained(data.train, settings), 0
        else:
            fine = load(trial.restored, data.statistics, "test")
            # Perhaps another trial's state (pbt), which goes on with the settings of this one. Only rates and penalties
            # change then, never the shape of an array: see `Space.tune_param_space`.
            fine.model.settings = settings
            done = int(json.loads((trial.restored / STATE).read_text())["steps"])
        for step in range(done, trial.steps):
            fine, _ = partial_fit(fine, _part(data.train, step, trial.steps, settings.epochs), settings)

            # Bound as defaults: a closure would save what the loop has reached by then.
            def save(folder: Path, fine: FineRanker = fine, step: int = step) -> None:
                (folder / "model").mkdir()
                fine.save(folder / "model/fm_test.npz", data.statistics)
                (folder / STATE).write_text(json.dumps({"steps": step + 1}))

            started = time.perf_counter()
            numbers = evaluate(fine, data.valid)
            numbers["latency_us"] = (time.perf_counter() - started) / len(data.valid.label) * 1e6
            numbers |= data.value.measure(fine.predict) if data.value else {}
            numbers["memory_mb"] = fine.model.memory_bytes / 2**20
            trial.report(numbers, save)

    def test(self, config: Config, day: date) -> dict[str, float]:
        settings, folder = config.get(FMSettings), examples_folder(config, day)
        learned, valid, test = (read_rows(folder / split, KEYS) for split in ("train", "valid", "test"))
        fine, _ = train(learned, settings)
        # An online learner has learned the validation rows by the time the test rows come.
        fine, _ = partial_fit(fine, valid, settings)
        value = list_value(config, day, "test")
        return evaluate(fine, test) | (value.measure(fine.predict) if value else {})


def _part(rows: Rows, step: int, steps: int, epochs: int) -> Rows:
    """The rows of a step: a slice in the order of time, of `epochs` passes over all rows."""
    first, last = step * epochs / steps, (step + 1) * epochs / steps
    number = int(first + 1e-9)  # of the pass; 1e-9 against a boundary that rounding puts just below
    return part_of(rows, first - number, min(last - number, 1.0))
