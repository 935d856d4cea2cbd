"""Training on Spark's executors by TorchDistributor: the one module of training that opens Spark, to start workers."""

import logging
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from conf import Config, UserError
from conf.console.progress import waiting
from conf.machine.network import NetworkSettings
from etl.session import spark_session
from etl.settings import SparkSettings
from training.launch.booking import DOCTOR, Booking, Engine, Node, book
from training.launch.ray_room import LINE_EVERY_S
from training.loop.job import Job
from training.net_settings import NetSettings
from training.settings import TrainSettings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

TASK_CPUS, TASK_GPUS = "spark.task.cpus", "spark.task.resource.gpu.amount"
EXECUTOR_GPUS, DISCOVERY = "spark.executor.resource.gpu.amount", "spark.executor.resource.gpu.discoveryScript"
POLL_S = 0.5


def distribute(run_worker: Callable[[Sequence[Job], Booking], None], jobs: Sequence[Job], num_workers: int) -> None:
    """Run `run_worker(jobs, booking)` in `num_workers` processes at once, each in a task slot of Spark.

    Raises:
        UserError: Spark has fewer task slots or GPUs, so that the barrier stage would wait for ever.
    """
    from pyspark.ml.torch.distributor import TorchDistributor

    from training.launch.loopback_spark import LoopbackDistributor

    config = with_booking(jobs[0].config)
    settings = config.get(TrainSettings)
    with spark_session(config) as spark:
        if not config.get(SparkSettings).is_local:
            _wait_for_slots(spark, num_workers, settings.launch_timeout_s)
        engine = Engine("Spark", spark_nodes(spark))
        booking = book(settings, num_workers, engine, is_sharded=config.get(NetSettings).sharded)
        if note := booking.note or _unused_gpus(config, booking):
            log.warning("%s", note)
        is_private = config.get(SparkSettings).is_local and config.get(NetworkSettings).listen == "loopback"
        kind = LoopbackDistributor if is_private else TorchDistributor
        distributor = kind(num_processes=num_workers, local_mode=False, use_gpu=booking.gpus > 0)
        # Workers unpickle the jobs from files.
        distributor.run(run_worker, [job.without_secrets() for job in jobs], booking)


def with_booking(config: Config) -> Config:
    """The settings with what Spark must know before its session starts: CPUs and GPUs of a task, how they are found.

    Options of `spark.extra` stay as they are. Local mode books no GPUs: Spark has them on clusters only. With
    `train.gpus_per_worker=auto` a cluster's are taken where its own options give executors GPUs.
    """
    settings, spark = config.get(TrainSettings), config.get(SparkSettings)
    options: dict[str, str] = {}
    if settings.cpus_per_worker:
        options[TASK_CPUS] = str(settings.cpus_per_worker)
    is_asked_for = settings.gpus_per_worker not in ("auto", 0)
    if not spark.is_local and (is_asked_for or (settings.gpus_per_worker == "auto" and EXECUTOR_GPUS in spark.extra)):
        program = Path(spark.python or sys.executable).parent / "millrace-gpus"  # of `make setup` on every node
        options |= {TASK_GPUS: "1", EXECUTOR_GPUS: "1", DISCOVERY: str(program)}
    return config.with_values({"spark.extra": {**options, **spark.extra}}) if options else config


def spark_nodes(spark: "SparkSession") -> list[Node]:
    """Executors with their task slots as CPUs, and their GPUs where the session hands them to tasks."""
    context = spark.sparkContext
    if str(context.master).startswith("local"):
        return [Node(context.defaultParallelism)]
    java = context._jsc.sc()
    executors = java.statusStore().executorList(True)
    hands_out = float(context.getConf().get(TASK_GPUS, "0") or 0) >= 1
    nodes = []
    for i in range(executors.size()):
        if (executor := executors.apply(i)).id() != "driver":
            gpu = executor.resources().get("gpu")
            gpus = len(gpu.get().addresses()) if hands_out and gpu.isDefined() else 0
            nodes.append(Node(executor.totalCores(), gpus))
    return nodes


def _wait_for_slots(spark: "SparkSession", num_workers: int, timeout_s: float) -> None:
    """Wait until so many executors have joined that all workers run at once, with a line every few seconds.

    Raises UserError when they haven't after `timeout_s` seconds.
    """
    cpus = int(spark.sparkContext.getConf().get(TASK_CPUS, "1") or 1)

    def slots() -> int:
        return sum(node.slots(cpus, 0) for node in spark_nodes(spark))

    until = time.monotonic() + timeout_s
    with waiting(
        f"waiting for {num_workers} task slots of {cpus} CPU on Spark",
        lambda: f"executors have {slots()}",
        every_s=LINE_EVERY_S,
    ):
        while (there := slots()) < num_workers:
            if time.monotonic() > until:
                raise UserError(
                    f"Spark's executors have {there} task slots of {cpus} CPU after {timeout_s:g} s, {num_workers} "
                    "workers need as many: give it more executors (spark.extra), lower --workers, or set "
                    f"train.launch_timeout_s ({DOCTOR.format('spark')})"
                )
            time.sleep(POLL_S)


def _unused_gpus(config: Config, booking: Booking) -> str:
    """What to say when this machine has GPUs and Spark's local mode trains on its CPU; else nothing."""
    import torch

    if booking.gpus or not config.get(SparkSettings).is_local or config.get(TrainSettings).gpus_per_worker == 0:
        return ""
    if not torch.cuda.is_available():
        return ""
    return "Spark's local mode hands out no GPUs: training on the CPU; --backend local, ray or horovod would use them"
