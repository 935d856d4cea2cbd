"""Searching the coarse ranker: a trial is measured every so many trees."""

import time
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np

from conf import Config
from features.metrics.classification import click_metrics
from recsys.coarse import train as coarse
from recsys.dataset import Rows, examples_folder, read_rows
from recsys.settings import CoarseSettings
from tuning.targets.rows import part_of, shared
from tuning.targets.target import Target
from tuning.targets.trial import Trial
from tuning.targets.value import ListValue, list_value


@dataclass(frozen=True)
class CoarseData:
    """Rows that all trials read, and what judges lists, where these are what is searched for."""

    train: Rows
    valid: Rows
    value: ListValue | None


class LightGBM(Target):
    """`millrace tune lightgbm`."""

    family = "lightgbm"
    metric = "log_loss"
    on_spark = False
    can_change = False

    def data(self, config: Config, day: date) -> CoarseData:
        folder = examples_folder(config, day)
        train, valid = (shared(read_rows(folder / split, coarse.KEYS)) for split in ("train", "valid"))
        return CoarseData(train, valid, list_value(config, day, "valid"))

    def newest(self, data: CoarseData, share: float) -> CoarseData:
        return replace(data, train=part_of(data.train, 1 - share, 1.0))  # rows are in the order of time

    def run(self, config: Config, data: CoarseData, trial: Trial) -> None:
        train, valid = data.train, data.valid
        settings = config.get(CoarseSettings)
        # In trees: a trial makes so many reports, whatever the size of its booster.
        every = max(settings.rounds // trial.steps, 1)
        inputs = coarse.feature_matrix(valid)

        # Each report predicts the validation rows with all trees so far: too much to do after every tree.
        def watch(env: Any) -> None:
            if (env.iteration + 1) % every == 0:
                trial.report(_measure(env.model, inputs, data, env.iteration + 1), None)

        model = coarse.train(train, valid, settings, [watch])
        # Once more at the best number of trees, which early stopping chose and no report may have met.
        trial.report(_measure(model, inputs, data, model.best_iteration), None, last=True)

    def test(self, config: Config, day: date) -> dict[str, float]:
        folder = examples_folder(config, day)
        train, valid, test = (read_rows(folder / split, coarse.KEYS) for split in ("train", "valid", "test"))
        model = coarse.train(train, valid, config.get(CoarseSettings))
        numbers = click_metrics(test.label, _scores(model, coarse.feature_matrix(test)), test.keys["user_id"])
        value = list_value(config, day, "test")
        return numbers | _value(value, model, None)


def _value(value: ListValue | None, model: Any, trees: int | None) -> dict[str, float]:
    return value.measure(lambda rows: _scores(model, coarse.feature_matrix(rows), trees)) if value else {}


def _measure(model: Any, inputs: Any, data: CoarseData, trees: int) -> dict[str, float]:
    valid = data.valid
    started = time.perf_counter()
    scores = _scores(model, inputs, trees)
    seconds = time.perf_counter() - started
    numbers = click_metrics(valid.label, scores, valid.keys["user_id"])
    numbers |= _value(data.value, model, trees)
    return {**numbers, "trees": float(trees), "latency_us": seconds / len(valid.label) * 1e6}


def _scores(model: Any, inputs: Any, trees: int | None = None) -> Any:
    """(rows,) click probabilities; those of a ranking objective only order rows: they are not calibrated here."""
    scores = np.asarray(model.predict(inputs, num_iteration=trees))
    is_probability = (model.params.get("objective") or "binary") == "binary"
    return scores if is_probability else 1 / (1 + np.exp(-scores))
