"""PySpark's TorchDistributor with what it starts listening on loopback alone: PySpark 4.3 has no options for it."""

import socketserver
import sys
import threading
from typing import Any

from pyspark.ml.torch import distributor
from pyspark.ml.torch.distributor import TorchDistributor
from pyspark.ml.torch.log_communication import LogStreamingServer, WriteLogToStdout  # type: ignore[attr-defined]


class LoopbackDistributor(TorchDistributor):
    """TorchDistributor on a local Spark, which listens on loopback alone."""

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
