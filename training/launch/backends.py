"""Backends: four ways to start workers that all run the same `fit`."""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from conf import UsageError, UserError
from training.launch import job_file
from training.launch.horovod_worker import run_horovod_worker
from training.launch.ray_session import ray_session
from training.launch.worker_jobs import ERROR, FINAL, Metrics, failure_cause, read_metrics, run_jobs
from training.loop import Job, fit
from training.settings import RaySettings, TrainSettings

log = logging.getLogger(__name__)

Launcher = Callable[[Sequence[Job], int], list[Metrics]]
"""Trains jobs, one after the other, in workers that are started once; returns the metrics of each."""


def launch_local(jobs: Sequence[Job], num_workers: int) -> list[Metrics]:
    """In this process."""
    from training.workers import LocalWorker

    if num_workers != 1:
        raise UsageError(f"--backend local trains in this process: --workers {num_workers} needs ray, horovod or spark")
    return [fit(LocalWorker(), job) for job in jobs]


def launch_ray(jobs: Sequence[Job], num_workers: int) -> list[Metrics]:
    """Ray Train: after a worker's death the group goes on from the last checkpoint, with fewer if it has to."""
    from training.launch import on_ray

    settings, folder = jobs[0].config.get(TrainSettings), jobs[0].run_folder
    fewest = settings.min_workers or num_workers
    with ray_session(jobs[0].config):
        try:
            on_ray.train(
                [job_file.save(job) for job in jobs],
                num_workers if fewest >= num_workers else (fewest, num_workers),
                use_gpu=_has_gpu(),
                storage=folder,
                max_failures=settings.max_failures,
                outlives_us=jobs[0].config.get(RaySettings).address is not None,
            )
        except Exception as error:
            raise failure_cause(jobs, error) from error
    if not all((job.run_folder / FINAL).exists() for job in jobs):
        raise failure_cause(jobs, RuntimeError("its workers ended without an answer"))
    return read_metrics(jobs)


def launch_horovod(jobs: Sequence[Job], num_workers: int) -> list[Metrics]:
    """Horovod: gradients are averaged by ring all-reduce, without MPI. On Ray, or by `horovodrun` over train.hosts.

    On Ray the group starts anew from the last checkpoint when a worker or its machine dies, `train.max_failures` times.
    """
    if jobs[0].config.get(TrainSettings).hosts:
        return _horovodrun(jobs, num_workers)
    from horovod.ray import RayExecutor

    retries = jobs[0].config.get(TrainSettings).max_failures
    with ray_session(jobs[0].config):
        while True:
            settings = RayExecutor.create_settings(timeout_s=120)
            executor = RayExecutor(settings, num_workers=num_workers, cpus_per_worker=1, use_gpu=_has_gpu())
            try:
                executor.start()
                executor.run(run_horovod_worker, args=[list(jobs)])
                return read_metrics(jobs)
            except Exception as error:
                cause = failure_cause(jobs, error)
                if not retries or any((job.run_folder / ERROR).exists() for job in jobs):
                    raise cause from error
                retries -= 1
                log.warning("workers start again from the last checkpoint: %s", cause)
            finally:
                executor.shutdown()


def _horovodrun(jobs: Sequence[Job], num_workers: int) -> list[Metrics]:
    """One `horovodrun`, which starts the processes over ssh on other hosts and ends them all when one dies."""
    hosts = str(jobs[0].config.get(TrainSettings).hosts)
    command = [
        *(str(Path(sys.executable).parent / "horovodrun"), "--gloo", "-np", str(num_workers), "-H", hosts),
        *(sys.executable, "-m", "training.launch.horovod_worker", *(str(job_file.save(job)) for job in jobs)),
    ]
    process = subprocess.Popen(command, stdout=sys.stderr, start_new_session=True)
    try:
        code = process.wait()
    except BaseException:
        os.killpg(process.pid, signal.SIGTERM)
        raise
    if code:
        raise failure_cause(jobs, RuntimeError(f"horovodrun ended with {code}"))
    return read_metrics(jobs)


def launch_spark(jobs: Sequence[Job], num_workers: int) -> list[Metrics]:
    """On Spark's executors, as one barrier stage; data goes from files to workers, not through the driver."""
    from training.launch.on_spark import distribute

    try:
        distribute(_fit_on_spark, jobs, num_workers, use_gpu=_has_gpu())
    except UserError:
        raise
    except Exception as error:
        raise failure_cause(jobs, error) from error
    return read_metrics(jobs)


def _fit_on_spark(jobs: Sequence[Job]) -> None:
    from training.workers import SparkWorker

    run_jobs(jobs, SparkWorker)


BACKENDS: dict[str, Launcher] = {
    "local": launch_local,
    "ray": launch_ray,
    "horovod": launch_horovod,
    "spark": launch_spark,
}


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
