"""Backends: four ways to start workers, all of which run the same `fit`.

A new backend is a function here and a line of BACKENDS. One call trains several jobs, for starting the workers can take
longer than training a small model.
"""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from conf import UsageError, UserError
from conf.machine.network import NetworkSettings, loopback_interface
from conf.masking import public_environment
from training.compat import horovod_rendezvous_on
from training.launch import job_file
from training.launch.booking import Booking
from training.launch.horovod_worker import run_horovod_worker
from training.launch.ray_room import book_on_ray, wait_for_room
from training.launch.ray_session import is_on_this_machine, ray_session
from training.launch.worker_jobs import ERROR, FINAL, Metrics, failure_cause, read_metrics, record_group, run_jobs
from training.loop.fit import fit
from training.loop.job import Job
from training.settings import RaySettings, TrainSettings

log = logging.getLogger(__name__)

Launcher = Callable[[Sequence[Job], int], list[Metrics]]
"""Trains jobs, one after the other, in workers that are started once; returns the metrics of each."""


def launch_local(jobs: Sequence[Job], num_workers: int) -> list[Metrics]:
    """Train in this process, without a worker's start.

    Raises:
        UsageError: more than one worker.
        UserError: `train.gpus_per_worker` or `train.cpus_per_worker` is more than the machine has.
    """
    from training.launch.devices import local_device
    from training.workers import LocalWorker

    if num_workers != 1:
        raise UsageError(f"--backend local trains in this process: --workers {num_workers} needs ray, horovod or spark")
    device = local_device(jobs[0].config.get(TrainSettings))
    return [fit(LocalWorker(device), job) for job in jobs]


def launch_ray(jobs: Sequence[Job], num_workers: int) -> list[Metrics]:
    """Train by Ray Train, in a group of one process a worker.

    After a worker's death the group starts anew from the last checkpoint, up to `train.max_failures` times, and with as
    few as `train.min_workers` when the cluster has no room for all.

    Raises:
        UserError: a job can't be trained as it is set up, or the group failed too often.
    """
    from training.launch import on_ray

    settings, folder = jobs[0].config.get(TrainSettings), jobs[0].run_folder
    min_workers = min(settings.min_workers or num_workers, num_workers)
    with ray_session(jobs[0].config):
        booking = _book_on_ray(jobs, min_workers, shares_gpus=True)
        wait_for_room(booking, min_workers, settings.launch_timeout_s)
        try:
            on_ray.train(
                [job_file.save(job) for job in jobs],
                # A range makes Ray Train's group elastic.
                num_workers if min_workers >= num_workers else (min_workers, num_workers),
                booking=booking,
                storage=folder,
                max_failures=settings.max_failures,
                is_shared_cluster=jobs[0].config.get(RaySettings).address is not None,
            )
        except Exception as error:
            raise failure_cause(jobs, error) from error
    # Ray Train is content when all workers return, as they do after a mistake of the user's.
    if not all((job.run_folder / FINAL).exists() for job in jobs):
        raise failure_cause(jobs, RuntimeError("its workers ended without a result"))
    return read_metrics(jobs)


def launch_horovod(jobs: Sequence[Job], num_workers: int) -> list[Metrics]:
    """Train by Horovod, whose ring all-reduce needs no MPI: on Ray, or by `horovodrun` where `train.hosts` is set.

    On Ray the group starts anew from the last checkpoint when a worker or its machine dies, up to `train.max_failures`
    times; `horovodrun` ends with the first death.

    Raises:
        UserError: a job can't be trained as it is set up, or the group failed too often.
    """
    settings = jobs[0].config.get(TrainSettings)
    if settings.hosts:
        return _horovodrun(jobs, num_workers)
    import ray

    # The interface that the workers listen at, where Horovod would look for one by the host's name.
    nics = {loopback_interface()} if is_on_this_machine(jobs[0].config) else None
    retries = settings.max_failures
    with ray_session(jobs[0].config):
        booking = _book_on_ray(jobs, num_workers, shares_gpus=False)
        # Horovod's own elastic mode wants its state objects in the loop; starting anew from a checkpoint does not.
        while True:
            wait_for_room(booking, num_workers, settings.launch_timeout_s)
            executor = _horovod_executor(booking, num_workers, nics)
            try:
                with horovod_rendezvous_on(ray.util.get_node_ip_address()):
                    executor.start()
                executor.run(run_horovod_worker, args=[[job.without_secrets() for job in jobs], booking])
                return read_metrics(jobs)
            except Exception as error:
                cause = failure_cause(jobs, error)
                # A mistake of the user's would end the next attempt the same way.
                if not retries or any((job.run_folder / ERROR).exists() for job in jobs):
                    raise cause from error
                retries -= 1
                log.warning("workers start again from the last checkpoint: %s", cause)
            finally:
                executor.shutdown()


def _horovod_executor(booking: Booking, num_workers: int, nics: set[str] | None) -> Any:
    from horovod.ray import RayExecutor

    return RayExecutor(
        RayExecutor.create_settings(timeout_s=120, nics=nics),
        num_workers=num_workers,
        cpus_per_worker=booking.cpus,
        use_gpu=booking.gpus > 0,
        gpus_per_worker=int(booking.gpus) or None,
    )


def _book_on_ray(jobs: Sequence[Job], num_workers: int, *, shares_gpus: bool) -> Booking:
    """What each worker books on Ray, noted in the log where it is not what one would expect."""
    booking = book_on_ray(jobs[0].config, num_workers, shares_gpus=shares_gpus)
    if booking.note:
        log.warning("%s", booking.note)
    return booking


def _horovodrun(jobs: Sequence[Job], num_workers: int) -> list[Metrics]:
    """Run one `horovodrun`, which starts the processes over ssh on other hosts and ends them all when one dies."""
    settings = jobs[0].config.get(TrainSettings)
    is_open = jobs[0].config.get(NetworkSettings).listen == "all"
    program = "horovod.runner.launch" if is_open else "training.launch.horovodrun"
    command = [
        *(sys.executable, "-m", program, "--gloo", "-np", str(num_workers), "-H", str(settings.hosts)),
        *("--start-timeout", f"{settings.launch_timeout_s:.0f}"),
        *(sys.executable, "-m", "training.launch.horovod_worker", *(str(job_file.save(job)) for job in jobs)),
    ]
    # Our standard output is the command's one JSON line. A session of its own, so that its children can be ended, too.
    # It writes every variable on the command lines of its workers, whose settings are in their jobs' files.
    environment = public_environment(os.environ)
    process = subprocess.Popen(command, stdout=sys.stderr, start_new_session=True, env=environment)
    try:
        code = process.wait()
    except BaseException:  # Ctrl-C above all: the workers would go on on their hosts
        os.killpg(process.pid, signal.SIGTERM)
        raise
    if code:
        # It ends the other ranks at once, often before they can record that one is missing.
        hint = "above it names the process that ended first, and its exit code (137: killed, as when out of memory)"
        raise failure_cause(jobs, RuntimeError(f"horovodrun ended with {code}; {hint}"))
    return read_metrics(jobs)


def launch_spark(jobs: Sequence[Job], num_workers: int) -> list[Metrics]:
    """Train on Spark's executors, as one barrier stage: all its tasks run at once, and fail together.

    Data goes from files to workers, not through the driver.

    Raises:
        UserError: Spark has too few task slots or GPUs, a job can't be trained as it is set up, or a worker died.
    """
    from training.launch.on_spark import distribute

    try:
        distribute(run_spark_worker, jobs, num_workers)
    except UserError:
        raise
    except Exception as error:
        raise failure_cause(jobs, error) from error
    return read_metrics(jobs)


def run_spark_worker(jobs: Sequence[Job], booking: Booking) -> None:
    """Train `jobs` as one rank; the processes of TorchDistributor import this function by its name."""
    from torch.distributed.rendezvous import rendezvous

    from training.launch.devices import join_group
    from training.workers import TorchWorker

    def join() -> TorchWorker:
        agreement, device = join_group(booking, *next(rendezvous("env://")))
        worker = TorchWorker(device)
        if worker.rank == 0:
            record_group(jobs, agreement)
        return worker

    run_jobs(jobs, join)


BACKENDS: dict[str, Launcher] = {
    "local": launch_local,
    "ray": launch_ray,
    "horovod": launch_horovod,
    "spark": launch_spark,
}
