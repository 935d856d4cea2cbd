"""Finished runs as models again: found by name, loaded, measured."""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from conf import Config, Paths, UserError
from conf.runs import DONE, newest_run
from training.evaluate import Floats, predict_split
from training.inputs.batch import Batch
from training.inputs.dataset import TaskDataset, open_dataset
from training.inputs.feed import FeedSpec, read_epoch
from training.models import model_named
from training.saved import NET, load_model
from training.settings import TrainSettings
from training.tasks import Task
from training.tasks.objective import Objective


@dataclass(frozen=True)
class Trained:
    """A model of a finished run, and the day's data that it reads."""

    run_id: str
    model: str
    day: date
    folder: Path
    """Its model folder."""
    net: nn.Module
    task: Task
    data: TaskDataset
    config: Config

    def feed(self, split: str) -> FeedSpec:
        """A split, whole and in order."""
        settings = self.config.get(TrainSettings)
        return FeedSpec(self.data.folder / split, self.data.columns, settings.batch_size)

    def predict(self, split: str) -> tuple[Floats, Floats]:
        """(rows, outputs) predictions and labels of a split, in the order of its files."""
        return predict_split(self.objective, self.feed(split), torch.device("cpu"))

    def measure(self, split: str) -> dict[str, float]:
        """The task's numbers of a split, and its `rows`."""
        predictions, labels = self.predict(split)
        return {**self.task.measure(predictions, labels), "rows": float(len(predictions))}

    @property
    def objective(self) -> Objective:
        return Objective(self.net, self.task, self.data.inputs, self.config)

    def with_net(self, net: nn.Module) -> "Trained":
        """The same run with another net in place of its own."""
        return replace(self, net=net)

    def batch(self, split: str = "valid") -> Batch:
        """The first rows of a split."""
        return next(read_epoch(self.feed(split), 0))


def open_trained(config: Config, run_id: str) -> Trained:
    """The model of a run, with the data of its day. Raises UserError when there is none, or for other features."""
    run = config.get(Paths).runs / run_id
    if not (run / DONE).exists() or not (run / "model" / NET).exists():
        raise UserError(f"no finished run {run_id} with a deep model in {run.parent}")
    about = json.loads((run / DONE).read_text(encoding="utf-8"))
    model = json.loads((run / "model" / NET).read_text(encoding="utf-8"))["model"]
    task, day = model_named(model).task, date.fromisoformat(about["dt"])
    net = load_model(run / "model", config).eval()
    return Trained(run_id, model, day, run / "model", net, task, open_dataset(config, task, day), config)


def newest_trained(config: Config, model: str, day: date) -> Trained:
    """The newest finished run of a model for a day, or of any day before it that reads the same features."""
    model_named(model)
    run = newest_run(config, model.replace(":", "."), day)
    if run is None:
        raise UserError(f"no finished run of {model} for {day}: run `millrace train {model} --date {day}`")
    return open_trained(config, run.name)


def latency_ms(trained: Trained, repeats: int = 50) -> float:
    """Median time of predicting one row, in milliseconds, on this machine."""
    return _median_ms(trained.objective.predict, trained.batch()[:1], repeats)


def _median_ms(predict: Any, row: Batch, repeats: int) -> float:
    durations = []
    with torch.no_grad():
        for _ in range(repeats):
            started = time.perf_counter()
            predict(row)
            durations.append(time.perf_counter() - started)
    return float(np.median(durations) * 1000)


def size_mb(net: nn.Module) -> float:
    """Megabytes of a net's weights, as `stored_mb` counts them."""
    return stored_mb(net.state_dict())


def stored_mb(weights: Mapping[str, Tensor]) -> float:
    """Megabytes of weights; zeros are not counted, as formats for sparse tensors have it (but for their places)."""
    stored: int = sum(int(tensor.count_nonzero()) * tensor.element_size() for tensor in weights.values())
    return stored / 2**20


def batches_of(trained: Trained, split: str) -> Iterator[Batch]:
    """Batches of a split without padding, in order."""
    for batch in read_epoch(trained.feed(split), 0):
        rows = int((batch.weight > 0).sum())
        yield batch[:rows]
