"""Training on Spark's executors by TorchDistributor: the one module of training that opens Spark, to start workers."""

import socketserver
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from pyspark.ml.torch import distributor
from pyspark.ml.torch.distributor import TorchDistributor
from pyspark.ml.torch.log_communication import LogStreamingServer, WriteLogToStdout  # type: ignore[attr-defined]

from conf import UserError
from conf.network import NetworkSettings
from etl.session import spark_session
from etl.settings import SparkSettings
from training.loop import Job


def distribute(
    run_worker: Callable[[Sequence[Job]], None], jobs: Sequence[Job], num_workers: int, *, use_gpu: bool
) -> None:
    """Run `run_worker(jobs)` in `num_workers` processes at once, each in a task slot of Spark.

    Raises:
        UserError: Spark has fewer task slots, so that the barrier stage would wait for ever.
    """
    config = jobs[0].config
    is_private = config.get(SparkSettings).is_local and config.get(NetworkSettings).listen == "loopback"
    with spark_session(config) as spark:
        slots = spark.sparkContext.defaultParallelism
        if slots < num_workers:
            raise UserError(
                f"--workers {num_workers} needs as many task slots at once, Spark has {slots}: "
                f"set spark.master=local[{num_workers}] or give it more executors"
            )
        kind = LoopbackDistributor if is_private else TorchDistributor
        kind(num_processes=num_workers, local_mode=False, use_gpu=use_gpu).run(run_worker, list(jobs))


class LoopbackDistributor(TorchDistributor):
    """TorchDistributor on a local Spark, which listens on loopback alone: PySpark 4.3 has no options for it."""

    def _run(self, train_object: Any, run_pytorch_file_fn: Any, *args: Any, **kwargs: Any) -> Any:
        distributor.LogStreamingServer = LoopbackLogServer  # type: ignore[attr-defined]  # imported there
        try:
            return super()._run(train_object, run_torchrun, *args, **kwargs)
        finally:
            distributor.LogStreamingServer = LogStreamingServer  # type: ignore[attr-defined]


class LoopbackLogServer(LogStreamingServer):  # type: ignore[misc]  # PySpark has no types here
    """Takes the workers' output, at the driver's address instead of all interfaces."""

    def start(self, spark_host_address: str = "") -> None:
        self.server = server = socketserver.ThreadingTCPServer((spark_host_address, 0), WriteLogToStdout)
        server.is_active = True  # type: ignore[attr-defined]  # what the handler asks for
        self.port = server.server_address[1]
        self.serve_thread = threading.Thread(target=server.serve_forever, daemon=True)
        self.serve_thread.start()

    def shutdown(self) -> None:
        server = self.server
        super().shutdown()
        if server is not None:
            server.server_close()


def run_torchrun(input_params: dict[str, Any], path: str) -> None:
    """Run the script that TorchDistributor wrote to `path`; in the Python process of a task of Spark's."""
    # Python, -m, PySpark's wrapper of torchrun, then the arguments.
    _, _, _, *arguments = TorchDistributor._create_torchrun_command(input_params, path)
    TorchDistributor._execute_command(
        [sys.executable, "-m", "training.launch.torchrun", *arguments],
        log_streaming_client=input_params.get("log_streaming_client"),
    )
