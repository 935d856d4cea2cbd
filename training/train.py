"""Train a deep model on the data of a day: `millrace train deepfm --date D --backend horovod --workers 2`."""

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from conf import Config, Paths, UserError
from conf.cli import one_of
from conf.runs import Run, start_run, unfinished_run
from conf.versions import describe_version
from training import frozen, tracking
from training.inputs.dataset import TaskDataset, open_dataset, write_item_catalog
from training.launch.backends import BACKENDS
from training.launch.worker_jobs import ERROR, FINAL
from training.loop import Job
from training.models import Model, model_named
from training.settings import TransferSettings
from training.tasks.task import table_metrics

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Training:
    """How to train: where the workers run, how many, whether to resume, and a teacher."""

    backend: str = "local"
    workers: int = 1
    resume: bool = False
    teacher: str | None = None
    """Run whose predictions are soft targets beside the labels (distillation)."""


def run(config: Config, models: Sequence[str], day: date, how: Training) -> dict[str, Any]:
    """Train models, one after the other in workers that are started once.

    Each leaves a run folder with weights, checkpoints and metrics. `how.resume` continues each model's newest run
    folder of this day that was not finished.

    Returns:
        Run id, backend, workers and `{split}_{metric}` of the model, or `runs`, a list of these for several.

    Raises:
        UsageError: an unknown model or backend.
        UserError: the day has no training set, nothing is to be resumed, or a worker failed; the message says how to
            go on.
    """
    model_entries = [model_named(model) for model in models]
    one_of("backend", how.backend, tuple(BACKENDS))
    datas = [open_dataset(config, model.task, day) for model in model_entries]
    with ExitStack() as stack:
        runs = [stack.enter_context(_opened(config, model, day, how)) for model in models]
        for run, data in zip(runs, datas, strict=True):
            run.log_dataset(describe_version(data.folder))
        jobs = [job_of(config, *parts, how.teacher) for parts in zip(models, model_entries, datas, runs, strict=True)]
        precomputed = frozen.is_wanted(config)
        reports = []
        trained = BACKENDS[how.backend]([frozen.head_job(job) for job in jobs] if precomputed else jobs, how.workers)
        for job in jobs if precomputed else ():
            frozen.put_together(job)
        for run, model, numbers in zip(runs, model_entries, trained, strict=True):
            for split in ("valid", "test"):
                of_split = {n.removeprefix(f"{split}_"): v for n, v in numbers.items() if n.startswith(f"{split}_")}
                log_split(run, split, table_metrics(model.task, of_split))
            tracking.log_run(config, run, how.backend, how.workers, numbers)
            reports.append({"run_id": run.run_id, "backend": how.backend, "workers": how.workers, **numbers})
    return reports[0] if len(reports) == 1 else {"runs": reports}


def _opened(config: Config, model: str, day: date, how: Training) -> AbstractContextManager[Run]:
    name = model.replace(":", ".")
    unfinished = unfinished_run(config, name, day) if how.resume else None
    if how.resume and unfinished is None:
        raise UserError(f"no unfinished run of {model} for {day} to resume")
    return start_run(config, name, day, resumed=unfinished)


def job_of(config: Config, model: str, entry: Model, data: TaskDataset, run: Run, teacher: str | None = None) -> Job:
    """The job of a run, whose folder is prepared for the workers: they may run on other machines."""
    (run.model_folder, run.checkpoints)  # noqa: B018 - made here, before workers need them
    for old in (FINAL, ERROR):
        (run.folder / old).unlink(missing_ok=True)
    if entry.task.needs_catalogue:
        write_item_catalog(data, run.folder)
    start_from = config.get(TransferSettings).run
    return Job(
        config,
        model,
        data.folder,
        run.folder,
        data.inputs,
        data.columns,
        data.version,
        None if start_from is None else model_folder(config, start_from),
        None if teacher is None else model_folder(config, teacher),
    )


def model_folder(config: Config, run_id: str) -> Path:
    """Where a run's weights are. Raises UserError when there is no such run."""
    folder = config.get(Paths).runs / run_id / "model"
    if not folder.is_dir():
        raise UserError(f"no run {run_id} with a model in {config.get(Paths).runs}")
    return folder


def log_split(run: Run, split: str, metrics: dict[str, float]) -> None:
    """A split's metrics for `ads_model_metric`: `recall@10` is recall with k = 10."""
    rows = int(metrics["rows"])
    for name, value in metrics.items():
        if name != "rows":
            metric, _, k = name.partition("@")
            run.log_metric("train", split, metric, value, rows, k=int(k) if k else None)
