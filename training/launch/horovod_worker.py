"""One Horovod process: on Ray as a function, under `horovodrun` as `python -m training.launch.horovod_worker FILES`."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from conf import UserError
from training.launch import job_file
from training.launch.booking import Booking
from training.launch.devices import Agreement, agree, claim, device_of
from training.launch.worker_jobs import record_group, run_jobs
from training.loop.job import Job
from training.settings import TrainSettings

if TYPE_CHECKING:
    import torch


def run_horovod_worker(jobs: Sequence[Job], booking: Booking) -> None:
    """Train `jobs` as one rank of a Horovod group. Raises UserError when a job can't be trained as it is set up."""
    from training.workers import HorovodWorker

    if limit_s := jobs[0].config.get(TrainSettings).timeout_s:
        # Horovod's own limit, of its thread that talks with those of the other ranks, whatever these compute meanwhile.
        os.environ.setdefault("HOROVOD_GLOO_TIMEOUT_SECONDS", str(max(round(limit_s), 1)))

    def join() -> HorovodWorker:
        agreement, device = join_horovod(booking)
        worker = HorovodWorker(device)
        if worker.rank == 0:
            record_group(jobs, agreement)
        return worker

    run_jobs(jobs, join, has_threads=False)  # its waits keep Python's lock


def join_horovod(booking: Booking) -> tuple[Agreement, "torch.device"]:
    """Initialise Horovod, and agree with the other ranks on what they train on; returns that and this rank's device.

    Raises UserError on every rank when GPUs are asked for and Horovod, or a rank, can't use them.
    """
    import horovod.torch as hvd
    import torch

    if booking.threads:
        torch.set_num_threads(booking.threads)
    if not booking.gpus or not torch.cuda.is_available():
        # Its thread wakes every millisecond otherwise, and takes the processor from those that compute.
        os.environ.setdefault("HOROVOD_CYCLE_TIME", "5")
    hvd.init()
    mine = claim(booking, hvd.rank(), hvd.local_rank())
    # Before any tensor: one on a GPU ends a build without NCCL in C++, far from its cause.
    ranks = hvd.allgather_object((mine, bool(hvd.nccl_built())), name="claims")
    has_nccl = all(built for _, built in ranks)
    agreement = agree([each for each, _ in ranks], booking, has_nccl=has_nccl, gloo_takes_gpus=False)
    return agreement, device_of(agreement, hvd.local_rank())


def booking_by_host(settings: TrainSettings) -> Booking:
    """What a process of `horovodrun` has: the settings' GPU, or with auto the one that it may find on its host."""
    gpus = settings.gpus_per_worker
    if gpus == "auto":
        return Booking(gpus=1.0, is_counted=False, threads=settings.cpus_per_worker)
    return Booking(gpus=gpus, is_exact=True, threads=settings.cpus_per_worker)


def main() -> None:
    """Train the jobs of the files named on the command line; exit code 1 after a mistake of the user's."""
    jobs = [job_file.load(Path(file)) for file in sys.argv[1:]]
    try:
        run_horovod_worker(jobs, booking_by_host(jobs[0].config.get(TrainSettings)))
    except UserError:  # its text is in the run folder, where the launcher reads it
        sys.exit(1)


if __name__ == "__main__":
    main()
