"""Training on Ray Train. Imports nothing heavy: Ray's controller imports it, too, and would wait for torch in vain.

Why not `TorchTrainer`: its configuration makes the controller import torch, and a manager of Ray Data's is started
though no data set is Ray's. On 2 busy cores each costs seconds before the first step. Workers make torch's process
group themselves; the rest is Ray Train's: placement, restarts from checkpoints, elastic groups.
"""

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.compat import ray_trainer

if TYPE_CHECKING:
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # public, but not in torch's list of names

    from training.launch.booking import Booking

# Callbacks of Ray Train that start a process each. The first serves Ray Data, which we don't use; the second clears up
# after a driver that died, on clusters that outlive it.
UNUSED_CALLBACKS = ("DatasetsCallback",)
SHARED_CLUSTER_CALLBACKS = ("PlacementGroupCleanerCallback",)


def train(
    job_files: Sequence[Path],
    num_workers: int | tuple[int, int],
    *,
    booking: "Booking",
    storage: Path,
    max_failures: int,
    is_shared_cluster: bool,
) -> None:
    """Run jobs in a group of workers of Ray Train, which starts anew after a worker's death.

    Args:
        job_files: what `job_file.save` wrote, on storage that all workers see.
        num_workers: how many, or the least and the most of an elastic group.
        booking: CPUs and GPUs of each worker.
        storage: folder for Ray Train's own state, the run folder.
        max_failures: deaths after which Ray Train gives up and raises.
        is_shared_cluster: whether the cluster outlives this process, so that resources must be freed if it dies.
    """
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")  # read at the import of ray.train
    from ray.train import FailureConfig, RunConfig, ScalingConfig

    trainer = ray_trainer((*UNUSED_CALLBACKS, *(() if is_shared_cluster else SHARED_CLUSTER_CALLBACKS)))
    trainer(
        train_worker,
        train_loop_config={"jobs": [str(path) for path in job_files], "booking": vars(booking)},
        scaling_config=ScalingConfig(
            num_workers=num_workers,
            use_gpu=booking.gpus > 0,
            resources_per_worker=booking.resources,
        ),
        run_config=RunConfig(
            name="ray", storage_path=str(storage), failure_config=FailureConfig(max_failures=max_failures)
        ),
    ).fit()


def train_worker(config: dict[str, Any]) -> None:
    """Train the jobs of the files `config["jobs"]` as one rank; Ray Train calls it in each worker.

    Returns without an error after a mistake of the user's, which the run folder records.
    """
    from conf import UserError
    from training.launch import job_file
    from training.launch.booking import Booking
    from training.launch.devices import join_group
    from training.launch.worker_jobs import record_group, run_jobs
    from training.workers import RayWorker

    jobs = [job_file.load(Path(path)) for path in config["jobs"]]

    def join() -> RayWorker:
        agreement, device = join_group(Booking(**config["booking"]), *_rendezvous())
        worker = RayWorker(device)
        if worker.rank == 0:
            record_group(jobs, agreement)
        return worker

    try:
        run_jobs(jobs, join)
    except UserError:
        return  # raised here, it would make Ray Train start the group anew, to end the same way


def _rendezvous() -> tuple["TCPStore", int, int]:
    """The store of this group of Ray Train, where rank 0 listens; this process's rank, and how many there are."""
    import ray.util
    from ray.train import get_context
    from ray.train.collective import broadcast_from_rank_zero
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # public, but not in torch's list of names

    from training.launch.devices import NETWORK_TIMEOUT

    context = get_context()
    os.environ["LOCAL_RANK"] = str(context.get_local_rank())
    # A free port of rank 0's machine, drawn anew at each start: the port of a dead group may still be in use. Listened
    # at by us, at the node's address alone: torch's store would listen on every interface, and asks for no login.
    listener = None
    if context.get_world_rank() == 0:
        address = ray.util.get_node_ip_address()
        listener = socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
    host, port = broadcast_from_rank_zero(listener.getsockname()[:2] if listener else None)
    store = TCPStore(
        host,
        port,
        context.get_world_size(),
        is_master=listener is not None,
        timeout=NETWORK_TIMEOUT,
        master_listen_fd=listener.detach() if listener else None,
    )
    return store, context.get_world_rank(), context.get_world_size()
