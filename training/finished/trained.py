"""Models of finished runs, loaded with the data set of their day: predictions, metrics, latency and size."""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from conf import Config, Paths, UserError
from conf.runs import newest_run, run_folder
from conf.unfinished import DONE
from features.compatibility import OtherFeaturesError, check_timezone, trained_version
from features.dataset.names import HISTORY
from training.evaluate import Floats, predict_split
from training.inputs.batch import Batch
from training.inputs.dataset import TaskDataset, open_dataset
from training.inputs.feed import FeedSpec, read_epoch
from training.inputs.schema import Inputs
from training.models import model_named, saved_model
from training.saved import NET, load_model, read_net
from training.settings import TrainSettings
from training.tasks import Task
from training.tasks.objective import Objective


@dataclass(frozen=True)
class TrainedModel:
    """The model of a finished run, in evaluation mode on the CPU, and the data set of its day."""

    run_id: str
    model: str
    day: date
    folder: Path
    """The run's model folder."""
    net: nn.Module
    task: Task
    data: TaskDataset
    config: Config

    def feed(self, split: str) -> FeedSpec:
        """A split of the data set, read whole by this process, in the order of its files."""
        settings = self.config.get(TrainSettings)
        return FeedSpec(self.data.folder / split, self.data.columns, settings.batch_size)

    def predict(self, split: str) -> tuple[Floats, Floats]:
        """Predictions (rows, outputs) and labels (rows,) or (rows, labels) of a split, in the order of its files."""
        return predict_split(self.objective, self.feed(split), torch.device("cpu"))

    def measure(self, split: str) -> dict[str, float]:
        """The task's metrics of a split, and the number of its `rows`; a pass over the split."""
        predictions, labels = self.predict(split)
        return {**self.task.measure(predictions, labels), "rows": float(len(predictions))}

    @property
    def objective(self) -> Objective:
        # Not a field: `dataclasses.replace` gives another net, and an objective costs nothing to build.
        return Objective(self.net, self.task, self.data.inputs, self.config).eval()

    def batch(self, split: str = "valid") -> Batch:
        """The first batch of a split; rows of weight 0 at its end are padding."""
        return next(read_epoch(self.feed(split), 0))


def load_trained_model(config: Config, run_id: str) -> TrainedModel:
    """Load the model of a finished run, with the data set of its day.

    Raises:
        UserError: there is no such run, it is not finished or has no deep model; its day has no data set any more, or
            one of other features.
    """
    run = run_folder(config.get(Paths).runs, run_id)
    if not (run / DONE).exists() or not (run / "model" / NET).exists():
        raise UserError(f"no finished run {run_id} with a deep model in {run.parent}")
    about = json.loads((run / DONE).read_text(encoding="utf-8"))
    saved = read_net(run / "model")
    model = saved["model"]
    task, day = saved_model(model, run / "model" / NET, config).task, date.fromisoformat(about["dt"])
    # The list that it has learned from, whatever the settings name today.
    data = open_dataset(config.with_values({"net.history": saved["net"].get("history", HISTORY)}), task, day)
    inputs = load_inputs(run, data)
    net = load_model(run / "model", config).eval()
    # Its own inputs: `net.list_length` may have another value today.
    return TrainedModel(run_id, model, day, run / "model", net, task, replace(data, inputs=inputs), config)


def load_inputs(run: Path, data: TaskDataset) -> Inputs:
    """The inputs that the net of a run was built for.

    Raises:
        OtherFeaturesError: the data set has others, with which the net can't predict.
    """
    inputs = Inputs.load(run / "model")
    if difference := inputs.difference(data.inputs):
        raise OtherFeaturesError(
            f"run {run.name} was trained on features {trained_version(run)}, the data set {data.folder} has "
            f"{data.version}: {difference}; train again"
        )
    check_timezone(run, data.timezone)
    return inputs


def load_newest_model(config: Config, model: str, day: date) -> TrainedModel:
    """Load the newest finished run of a model for a day. Raises UserError when there is none, or no such model."""
    model_named(model)  # an unknown name is refused with the list of names, not as a missing run
    run = newest_run(config, model.replace(":", "."), day)
    if run is None:
        raise UserError(f"no finished run of {model} for {day}: run `millrace train {model} --date {day}`")
    return load_trained_model(config, run.name)


def latency_ms(trained: TrainedModel, repeats: int = 50) -> float:
    """Median time in milliseconds of predicting one validation row, with its pre-processing, on this machine."""
    objective, row = trained.objective, trained.batch()[:1]
    durations = []
    with torch.no_grad():
        for _ in range(repeats):
            started = time.perf_counter()
            objective.predict(row)
            durations.append(time.perf_counter() - started)
    # The median: the first calls are slower, for memory is allocated then.
    return float(np.median(durations) * 1000)


def stored_mb(weights: Mapping[str, Tensor]) -> float:
    """Megabytes of the values of `weights` that are not zero: what pruning saves in a sparse format.

    The indices that such a format needs as well are not counted.
    """
    stored: int = sum(int(tensor.count_nonzero()) * tensor.element_size() for tensor in weights.values())
    return stored / 2**20


def batches_of(trained: TrainedModel, split: str) -> Iterator[Batch]:
    """Batches of a split in order, without the padding rows that fill up the last one."""
    for batch in read_epoch(trained.feed(split), 0):
        rows = int((batch.weight > 0).sum())
        yield batch[:rows]
