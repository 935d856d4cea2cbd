"""Training on Ray Train. Imports nothing heavy: Ray's controller imports it, too, and waits for torch in vain.

Why not `TorchTrainer`: its configuration makes the controller import torch, and a manager of Ray Data's is started
though no data set is Ray's. On 2 busy cores each costs seconds before the first step. Workers make torch's process
group themselves; the rest is Ray Train's: placement, restarts from checkpoints, elastic groups.
"""

import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from conf.processes import free_port
from training.compat import ray_trainer

# Helpers of Ray Train, a process each, that have nothing to do without Ray's data sets, or on a cluster of our own,
# which nobody takes machines from and which ends with us.
UNUSED = ("DatasetsCallback",)
FOR_CLUSTERS = ("PlacementGroupCleanerCallback",)
NETWORK_TIMEOUT = timedelta(minutes=5)


def train(
    job_files: Sequence[Path],
    num_workers: int | tuple[int, int],
    *,
    use_gpu: bool,
    storage: Path,
    max_failures: int,
    outlives_us: bool,
) -> None:
    """Run the jobs in a group of workers, which starts anew after a death, up to `max_failures` times.

    `outlives_us`: the cluster is not ended with this process, so what is left over has to be cleared.
    """
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    from ray.train import FailureConfig, RunConfig, ScalingConfig

    trainer = ray_trainer((*UNUSED, *(() if outlives_us else FOR_CLUSTERS)))
    trainer(
        work,
        train_loop_config={"jobs": [str(path) for path in job_files]},
        scaling_config=ScalingConfig(
            num_workers=num_workers,
            use_gpu=use_gpu,
            resources_per_worker={"CPU": 1, **({"GPU": 1} if use_gpu else {})},
        ),
        run_config=RunConfig(
            name="ray", storage_path=str(storage), failure_config=FailureConfig(max_failures=max_failures)
        ),
    ).fit()


def work(config: dict[str, list[str]]) -> None:
    """What each worker does."""
    from conf import UserError
    from training.launch import job_file
    from training.launch.worker_jobs import run_jobs
    from training.workers import RayWorker

    _join_process_group()
    try:
        run_jobs([job_file.load(Path(path)) for path in config["jobs"]], RayWorker)
    except UserError:
        return  # it is told from the run folder; a group that starts anew would end the same way


def _join_process_group() -> None:
    """torch's process group over the group's workers; rank 0 says where it listens."""
    import ray.util
    import torch
    from ray.train import get_context
    from ray.train.collective import broadcast_from_rank_zero

    context = get_context()
    os.environ["LOCAL_RANK"] = str(context.get_local_rank())
    host = ray.util.get_node_ip_address()
    address = broadcast_from_rank_zero(f"tcp://{host}:{free_port(host)}")
    torch.distributed.init_process_group(
        "nccl" if torch.cuda.is_available() else "gloo",
        init_method=address,
        rank=context.get_world_rank(),
        world_size=context.get_world_size(),
        timeout=NETWORK_TIMEOUT,
    )
