"""Searching a deep model: the training loop itself, measured after each epoch."""

import shutil
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any

import torch

from conf import Config, Paths, UserError
from training.finished.trained import stored_mb
from training.inputs.dataset import TaskDataset, open_dataset
from training.launch.booking import Booking
from training.launch.devices import claim, local_device
from training.loop.fit import fit
from training.loop.job import Job
from training.models import model_named
from training.settings import TrainSettings
from training.tasks import Task
from training.tasks.task import table_metrics
from training.workers import LocalWorker
from tuning.settings import TuneSettings
from tuning.targets.target import Target
from tuning.targets.trial import Trial


@dataclass(frozen=True)
class Deep(Target):
    """`millrace tune deepfm` and every other deep model; trials read the same Parquet files."""

    model: str
    family = "deep"
    on_spark = False
    can_change = True

    @property
    def metric(self) -> str:
        """The task's loss, by its name in `ads_model_metric`."""
        return model_named(self.model).task.loss_metric

    def data(self, config: Config, day: date) -> TaskDataset:
        task = model_named(self.model).task
        return open_dataset(config, task, day)

    def steps(self, config: Config, budget: float) -> int:
        # One report an epoch. A cheap trial makes fewer of them over all rows: `newest` stays as it is.
        epochs = config.get(TuneSettings).epochs or config.get(TrainSettings).epochs
        return max(round(epochs * budget), 1)

    def run(self, config: Config, data: TaskDataset, trial: Trial) -> None:
        job = Job.prepared(config.with_values({"train.epochs": trial.steps}), self.model, data, trial.folder)
        if trial.restored is not None:
            # `fit` goes on from the newest checkpoint that it finds in its folder.
            shutil.copytree(trial.restored, trial.folder / "checkpoints", dirs_exist_ok=True)
        task = model_named(self.model).task
        fit(_Reporting(trial, task, trial_device(trial.booking)), job, ("valid",))

    def test(self, config: Config, day: date) -> dict[str, float]:
        # Not in the run folder: what a search leaves are settings and their metrics, not a model.
        folder = config.get(Paths).root / "tmp" / f"tuned-{self.model.replace(':', '.')}"
        shutil.rmtree(folder, ignore_errors=True)
        try:
            job = Job.prepared(config, self.model, self.data(config, day), folder)
            numbers = fit(LocalWorker(local_device(config.get(TrainSettings))), job, ("test",))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        test_metrics = {name.removeprefix("test_"): value for name, value in numbers.items()}
        return table_metrics(model_named(self.model).task, test_metrics)


def trial_device(booking: Booking) -> torch.device:
    """The device of a trial, by what it has booked, whose CPUs are its threads.

    Raises UserError when `tune.gpus_per_trial` is a number, and torch can't use the GPU.
    """
    torch.set_num_threads(booking.cpus)
    mine = claim(booking, 0, 0)
    if mine.obstacle and booking.is_exact:
        raise UserError(f"a trial on {mine.host} can't use the GPU booked for it: {mine.obstacle}")
    return torch.device("cuda:0" if mine.gpu else "cpu")


class _Reporting(LocalWorker):
    """One process that tells the search how each epoch went."""

    def __init__(self, trial: Trial, task: Task, device: torch.device) -> None:
        super().__init__(device)
        self._trial, self._task = trial, task
        self._module: Any = None  # of the model under training, once there is one

    def prepare(self, module: Any, optimizer: Any, accumulate: int) -> Any:
        self._module = module
        return super().prepare(module, optimizer, accumulate)

    def report(self, metrics: dict[str, float]) -> None:
        reported = table_metrics(self._task, metrics)
        # What says when, not how well: no metric to compare trials by.
        reported = {name: value for name, value in reported.items() if name not in ("epoch", "started_at")}
        reported["size_mb"] = stored_mb(self._module.net.state_dict())
        # Tune copies it between trials of a population; a whole checkpoint, with the optimizer's state.
        save = partial(shutil.copytree, self._trial.folder / "checkpoints", dirs_exist_ok=True)
        self._trial.report(reported, save if self._trial.keeps_state else None)
