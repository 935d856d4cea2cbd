"""Backends: four ways to start workers that all run the same `fit`."""

import json
import logging
import os
from collections.abc import Callable

from conf import UsageError
from conf.atomic import write_atomically
from conf.cli import NotBuiltYet
from training.fit import Job, fit
from training.ray_session import ray_session

log = logging.getLogger(__name__)

Launcher = Callable[[Job, int], dict[str, float]]


def launch_local(job: Job, num_workers: int) -> dict[str, float]:
    """In this process."""
    from training.workers import LocalWorker

    if num_workers != 1:
        raise UsageError(f"--backend local trains in this process: --workers {num_workers} needs ray or horovod")
    return fit(LocalWorker(), job)


def launch_ray(job: Job, num_workers: int) -> dict[str, float]:
    """Ray Train: a worker's death restarts the group from the last checkpoint."""
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    with ray_session(job.config):
        trainer = TorchTrainer(
            _fit_on_ray,
            train_loop_config={"job": job},
            scaling_config=ScalingConfig(num_workers=num_workers, resources_per_worker={"CPU": 1}),
            run_config=RunConfig(
                name="ray", storage_path=str(job.run_folder), failure_config=FailureConfig(max_failures=2)
            ),
            torch_config=TorchConfig(timeout_s=300),
        )
        trainer.fit()
    return _told(job)


def _fit_on_ray(config: dict[str, Job]) -> None:
    from training.workers import RayWorker

    worker = RayWorker()
    _tell(config["job"], worker.rank, fit(worker, config["job"]))


def launch_horovod(job: Job, num_workers: int) -> dict[str, float]:
    """Horovod on Ray: gradients are averaged by ring all-reduce, without MPI."""
    from horovod.ray import RayExecutor

    with ray_session(job.config):
        settings = RayExecutor.create_settings(timeout_s=120)
        executor = RayExecutor(settings, num_workers=num_workers, cpus_per_worker=1, use_gpu=_has_gpu())
        executor.start()
        try:
            executor.run(_fit_on_horovod, args=[job])
        finally:
            executor.shutdown()
    return _told(job)


def _fit_on_horovod(job: Job) -> None:
    from training.workers import HorovodWorker

    worker = HorovodWorker()
    _tell(job, worker.rank, fit(worker, job))


def launch_spark(job: Job, num_workers: int) -> dict[str, float]:
    """On Spark's executors (not built yet)."""
    raise NotBuiltYet("millrace train --backend spark", "use local, ray or horovod")


BACKENDS: dict[str, Launcher] = {
    "local": launch_local,
    "ray": launch_ray,
    "horovod": launch_horovod,
    "spark": launch_spark,
}


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _tell(job: Job, rank: int, numbers: dict[str, float]) -> None:
    """Leave the numbers in the run folder, the one place that every backend's driver can read."""
    if rank == 0:
        write_atomically(job.run_folder / "final.json", json.dumps(numbers))


def _told(job: Job) -> dict[str, float]:
    numbers: dict[str, float] = json.loads((job.run_folder / "final.json").read_text())
    return numbers
