"""A replica: one worker's state and application in a process of Ray Serve, on any node that sees the home."""

import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout
from ray import serve
from starlette.applications import Starlette

from conf import Config, Paths, UserError
from recsys.serve.events.landing import MACHINES, land, own_folder
from recsys.serve.http.metrics import FOLDER_VARIABLE, forget_ended
from training.compat import ray_serve_on_own_address

if TYPE_CHECKING:
    from recsys.serve.service import Service

STARTED = "started"  # below serving/: names the start whose replicas may answer
SHARED_DISK_S = 10.0  # until a node sees what another one has written


@serve.ingress()
class Replica:
    """What Ray Serve runs `serving.workers` times.

    Args:
        config: of the command that started it.
        start: what `STARTED` must say, for the home to be the same one on every node.
    """

    def __init__(self, config: Config, start: str) -> None:
        """Load what is promoted. Raises UserError when this node does not see the home, or nothing can be loaded."""
        folder = config.get(Paths).root / "serving"
        check_home(config, start)
        ray_serve_on_own_address()
        # The machine's own name: one that was set for all would be that of several journals.
        config = config.with_values({"serving.on": "ray", "serving.instance": socket.gethostname()})
        own = own_folder(config)
        (own / "metrics").mkdir(parents=True, exist_ok=True)
        os.environ[FOLDER_VARIABLE] = str(own / "metrics")  # read when prometheus_client is imported, below
        sys.setswitchinterval(0.0005)  # as in the workers of one machine
        from recsys.serve.service import Service

        self._service, self._machines = Service(config), folder / MACHINES
        threading.Thread(target=_land_often, args=(self._service, own), daemon=True).start()

    def __serve_build_asgi_app__(self) -> Starlette:
        """The application, whose start and end Ray Serve runs."""
        from recsys.serve.http.app import Application
        from recsys.serve.http.metrics import Metrics

        return Application(self._service, Metrics(self._machines)).asgi()


def check_home(config: Config, start: str, seconds: float = SHARED_DISK_S) -> None:
    """Wait until this node sees the home of the command that has started it. Raises UserError after `seconds`."""
    started, deadline = config.get(Paths).root / "serving" / STARTED, time.monotonic() + seconds
    while not started.exists() or started.read_text() != start:
        if time.monotonic() >= deadline:
            raise UserError(
                f"node {socket.gethostname()} does not see {config.get(Paths).root}: put the home (paths.home) on a "
                "disk that all nodes mount at the same place"
            )
        time.sleep(0.2)


def _land_often(service: "Service", own: Path) -> None:
    """Land what is old enough: one replica of a machine does it for all, and another one when that one has died."""
    turn = threading.Event()
    while not turn.wait(service.settings.poll_s):
        try:
            with FileLock(own / "landing.lock", blocking=False):
                land(service.config)
                forget_ended(own / "metrics")
        except (Timeout, FileNotFoundError):
            continue
