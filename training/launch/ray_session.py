"""One connection to Ray for the process: the outermost `ray_session` opens and closes it, those within share it."""

import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from conf import Config, UserError
from conf.console.progress import EVERY_S, waiting
from conf.machine.network import LISTENING_INTERFACE, NetworkSettings, loopback_interface
from conf.site.loading import FOLDER_VARIABLE, SITE_VARIABLE
from training.compat import ray_on_loopback
from training.settings import RaySettings

log = logging.getLogger(__name__)

_REACH_S = 5.0
_ATTEMPTS = 3  # Ray waits 30 s for its own processes, which is not enough on a machine that is busy at that moment


@contextmanager
def ray_session(config: Config) -> Iterator[None]:
    """Connect to the cluster of `ray.address`, or start a local one; within another session, use that.

    A local cluster ends with the session: starting one costs seconds, so a command that runs several stages opens it
    around all of them. It listens on loopback, unless `network.listen` opens it.
    """
    settings = config.get(RaySettings)
    is_private = is_on_this_machine(config)
    # Before Ray is imported, and until it has ended: tasks ask for their node's address all the while.
    with ray_on_loopback() if is_private else nullcontext():
        import ray

        if ray.is_initialized():
            yield
            return
        _start(settings, is_private)
        try:
            yield
        finally:
            with waiting("the end of Ray"):
                ray.shutdown()


def is_on_this_machine(config: Config) -> bool:
    """Whether Ray is a local one that no other machine is meant to reach."""
    return config.get(RaySettings).address is None and config.get(NetworkSettings).listen == "loopback"


def _check_reachable(address: str) -> None:
    """Raises UserError when nobody listens at `host:port`: Ray would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():  # `auto` and the like
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_S).close()
    except OSError as error:
        raise UserError(f"can't reach Ray at {address} (ray.address): {error.strerror or error}") from None


def _start(settings: RaySettings, is_private: bool) -> None:
    import ray

    if settings.address:
        _check_reachable(settings.address)
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # leave GPUs visible to tasks that ask for none
    os.environ.setdefault("RAY_DISABLE_IMPORT_WARNING", "1")
    log.info("starting Ray" if settings.address is None else f"connecting to Ray at {settings.address}")
    # Ray refuses these for a cluster that is running already.
    local_options = (
        {}
        if settings.address
        else {
            "num_cpus": settings.num_cpus,
            "object_store_memory": settings.object_store_mb * 2**20,
            "include_dashboard": False,
        }
    )
    interface = dict.fromkeys(LISTENING_INTERFACE, loopback_interface()) if is_private else {}
    # A cluster's workers don't inherit the environment of this process.
    site = {name: os.environ[name] for name in (SITE_VARIABLE, FOLDER_VARIABLE) if name in os.environ}
    with waiting("the start of Ray", every_s=EVERY_S / 2):
        for attempts_left in reversed(range(_ATTEMPTS)):
            try:
                ray.init(
                    address=settings.address or "local",  # with None Ray joins whatever was started on this machine
                    logging_level=logging.ERROR,
                    log_to_driver="--debug" in sys.argv,  # else every worker's log is on our screen
                    # One thread a worker: with threads for all cores each, workers on all cores slow one another down.
                    runtime_env={"env_vars": {"PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1", **site, **interface}},
                    **local_options,
                )
                break
            except Exception as error:  # Ray has no class of its own for it
                if "timed out during startup" not in str(error) or not attempts_left:
                    raise
                log.warning("Ray did not start within its 30 s: trying again")
