"""Searching a deep model: the training loop itself, measured after each epoch."""

import shutil
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from conf import Config, Paths
from training.finished.trained import stored_mb
from training.inputs.dataset import TaskDataset, open_dataset
from training.loop import Job, fit
from training.models import model_named
from training.settings import TrainSettings
from training.tasks import Task
from training.tasks.task import table_metrics
from training.workers import LocalWorker
from tuning.settings import TuneSettings
from tuning.targets.trial import Trial


@dataclass(frozen=True)
class Deep:
    """`millrace tune deepfm` and every other deep model; trials read the same Parquet files."""

    model: str
    family = "deep"
    on_spark = False
    can_change = True

    @property
    def metric(self) -> str:
        """The task's loss, by its name in `ads_model_metric`."""
        return self._task.loss_metric

    @property
    def _task(self) -> Task:
        return model_named(self.model).task

    def data(self, config: Config, day: date) -> TaskDataset:
        return open_dataset(config, self._task, day)

    def steps(self, config: Config, budget: float) -> int:
        epochs = config.get(TuneSettings).epochs or config.get(TrainSettings).epochs
        return max(round(epochs * budget), 1)

    def newest(self, data: TaskDataset, share: float) -> TaskDataset:
        return data  # a cheap trial makes fewer epochs

    def run(self, config: Config, data: TaskDataset, trial: Trial) -> None:
        job = Job.prepared(config.with_values({"train.epochs": trial.steps}), self.model, data, trial.folder)
        if trial.restored is not None:
            shutil.copytree(trial.restored, trial.folder / "checkpoints", dirs_exist_ok=True)
        fit(_Reporting(trial, self._task), job, ("valid",))

    def test(self, config: Config, day: date) -> dict[str, float]:
        folder = config.get(Paths).root / "tmp" / f"tuned-{self.model.replace(':', '.')}"
        shutil.rmtree(folder, ignore_errors=True)
        try:
            job = Job.prepared(config, self.model, self.data(config, day), folder)
            numbers = fit(LocalWorker(), job, ("test",))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return table_metrics(self._task, {name.removeprefix("test_"): value for name, value in numbers.items()})


class _Reporting(LocalWorker):
    """One process that tells the search how each epoch went."""

    def __init__(self, trial: Trial, task: Task) -> None:
        super().__init__()
        self._trial, self._task = trial, task
        self._module: Any = None

    def prepare(self, module: Any, optimizer: Any, accumulate: int) -> Any:
        self._module = module
        return super().prepare(module, optimizer, accumulate)

    def report(self, metrics: dict[str, float]) -> None:
        def save(folder: Path) -> None:
            shutil.copytree(self._trial.folder / "checkpoints", folder, dirs_exist_ok=True)

        reported = table_metrics(self._task, metrics)
        reported = {name: value for name, value in reported.items() if name not in ("epoch", "started_at")}
        reported["size_mb"] = stored_mb(self._module.net.state_dict())
        self._trial.report(reported, save if self._trial.keeps_state else None)
