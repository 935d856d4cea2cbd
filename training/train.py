"""Train deep models on the data set of a day: `millrace train deepfm --date D --backend horovod --workers 2`.

Opens the data sets and run folders, hands the jobs to a backend and logs the metrics; the loop is in
`training/loop/fit.py`.
"""

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from conf import Config, Paths, UserError
from conf.console.cli import one_of
from conf.console.progress import EVERY_S, waiting
from conf.runs import Run, read_jsonl, run_folder, start_run, unfinished_run
from conf.versions import describe_version
from training import frozen, tracking
from training.evaluate import import_metrics
from training.inputs.dataset import TaskDataset, open_dataset
from training.launch.backends import BACKENDS
from training.launch.worker_jobs import ERROR, FAILURES, FINAL, GROUP
from training.loop.job import HISTORY, Job
from training.models import model_named
from training.settings import TrainSettings, TransferSettings
from training.tasks.task import table_metrics

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainOptions:
    """How to train, as the command line has it; everything else is settings.

    Args:
        backend: a name in BACKENDS.
        workers: processes that train together.
        resume: whether to continue the newest unfinished runs.
    """

    backend: str = "local"
    workers: int = 1
    resume: bool = False
    teacher: str | None = None
    """Run whose predictions are soft targets beside the labels (distillation)."""


def choose_backend(config: Config, backend: str | None, workers: int | None, *, daily: bool) -> tuple[str, int]:
    """Backend and workers: as the command line has them, else the settings, else local; the day's is Horovod's two."""
    settings = config.get(TrainSettings)
    if backend == "local":
        return backend, workers or 1
    chosen = backend or settings.backend or ("horovod" if daily else "local")
    return chosen, workers or settings.workers or (2 if daily and chosen != "local" else 1)


def run(config: Config, models: Sequence[str], day: date, options: TrainOptions) -> dict[str, Any]:
    """Train models, one after the other in workers that are started once.

    Each leaves a run folder with weights, checkpoints and metrics. `options.resume` continues each model's newest run
    folder of this day that was not finished.

    Returns:
        Run id, backend, workers and `{split}_{metric}` of the model, or `runs`, a list of these for several.

    Raises:
        UsageError: an unknown model or backend.
        UserError: the day has no training set, nothing is to be resumed, a metric of `train.metrics` can't be
            imported, or a worker failed; the message says how to go on.
    """
    model_entries = [model_named(model) for model in models]
    one_of("backend", options.backend, BACKENDS)
    import_metrics(config.get(TrainSettings).metrics)  # refused here, no workers start in vain
    datasets = [open_dataset(config, model.task, day) for model in model_entries]
    with ExitStack() as stack:
        # All run folders are open until the last model is trained: an error marks every one as unfinished.
        runs = [stack.enter_context(_start_or_resume_run(config, model, day, options.resume)) for model in models]
        for run, dataset in zip(runs, datasets, strict=True):
            run.log_dataset(describe_version(dataset.folder))
        jobs = [
            make_job(config, model, dataset, run, options.teacher)
            for model, dataset, run in zip(models, datasets, runs, strict=True)
        ]
        all_metrics = _train_jobs(config, jobs, options)
        reports = []
        for run, model, metrics in zip(runs, model_entries, all_metrics, strict=True):
            for split in ("valid", "test"):
                prefix = f"{split}_"
                split_metrics = {n.removeprefix(prefix): v for n, v in metrics.items() if n.startswith(prefix)}
                log_split(run, split, table_metrics(model.task, split_metrics))
            tracking.log_run(config, run, options.backend, options.workers, metrics)
            reports.append({"run_id": run.run_id, "backend": options.backend, "workers": options.workers, **metrics})
    return reports[0] if len(reports) == 1 else {"runs": reports}


def _train_jobs(config: Config, jobs: list[Job], options: TrainOptions) -> list[dict[str, float]]:
    """Metrics of each job, trained by the backend: whole models, or last layers on precomputed features."""
    launch = BACKENDS[options.backend]
    names = ", ".join(job.model for job in jobs)
    # From the run folders: on other backends than local, workers don't write to our standard error.
    is_local = options.backend == "local"
    every_s = EVERY_S if is_local else EVERY_S / 2  # most of a short job is the start of its workers
    with waiting(f"training {names} by {options.backend}", partial(_progress, jobs, is_local), every_s=every_s):
        if not frozen.is_precomputed(config):
            return launch(jobs, options.workers)
        all_metrics = launch([frozen.head_job(job) for job in jobs], options.workers)
    for job in jobs:
        frozen.save_with_head(job)
    return all_metrics


def _progress(jobs: Sequence[Job], is_local: bool) -> str:
    """How far the first job is that has not ended, by its history of epochs; before that, what is waited for."""
    job = next((job for job in jobs if not (job.run_folder / FINAL).exists()), jobs[-1])
    if not is_local and not (job.run_folder / GROUP).exists():
        return "waiting for the workers to start and join"
    path, epochs = job.run_folder / HISTORY, job.config.get(TrainSettings).epochs
    return f"{len(read_jsonl(path))} of {epochs} epochs of {job.model}"


def _start_or_resume_run(config: Config, model: str, day: date, resume: bool) -> AbstractContextManager[Run]:
    """The run folder of a model. Raises UserError when there is no unfinished run to resume."""
    name = model.replace(":", ".")
    unfinished = unfinished_run(config, name, day) if resume else None
    if resume and unfinished is None:
        raise UserError(f"no unfinished run of {model} for {day} to resume")
    return start_run(config, name, day, resumed=unfinished)


def make_job(config: Config, model: str, dataset: TaskDataset, run: Run, teacher: str | None = None) -> Job:
    """The job of a run, whose outcome is still to come.

    Raises UserError when the run to start from, or the teacher's, has no model.
    """
    for outcome in [path for pattern in (FINAL, GROUP, ERROR, FAILURES) for path in run.folder.glob(pattern)]:
        outcome.unlink()  # of the attempt that is resumed
    start_from = config.get(TransferSettings).run
    return Job.prepared(
        config,
        model,
        dataset,
        run.folder,
        start_from=None if start_from is None else model_folder(config, start_from),
        teacher=None if teacher is None else model_folder(config, teacher),
    )


def model_folder(config: Config, run_id: str) -> Path:
    """The model folder of the run `run_id`, of any day. Raises UserError when there is no such run with a model."""
    folder = run_folder(config.get(Paths).runs, run_id) / "model"
    if not folder.is_dir():
        raise UserError(f"no run {run_id} with a model in {config.get(Paths).runs}")
    return folder


def log_split(run: Run, split: str, metrics: dict[str, float]) -> None:
    """Log a split's metrics for `ads_model_metric`, with its `rows`; `recall@10` becomes recall with k = 10."""
    rows = int(metrics["rows"])
    for name, value in metrics.items():
        if name != "rows":
            metric, _, k = name.partition("@")
            run.log_metric("train", split, metric, value, rows, k=int(k) if k else None)
