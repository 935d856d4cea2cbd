"""One Ray for the process: started by whoever needs it first, shared by all within, stopped by the same."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from conf import Config
from training.settings import RaySettings

log = logging.getLogger(__name__)

_TRIES = 3  # Ray waits 30 s for its own processes, which is not enough on a machine that is busy at that moment


@contextmanager
def ray_session(config: Config) -> Iterator[None]:
    """Connect to the configured cluster, or start a local one; within another `ray_session` it is that one."""
    import ray

    if ray.is_initialized():
        yield
        return
    settings = config.get(RaySettings)
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DISABLE_IMPORT_WARNING", "1")
    log.info("starting Ray" if settings.address is None else f"connecting to Ray at {settings.address}")
    local = (
        {}
        if settings.address
        else {
            "num_cpus": settings.num_cpus,
            "object_store_memory": settings.object_store_mb * 2**20,
            "include_dashboard": False,
        }
    )
    for tries_left in reversed(range(_TRIES)):
        try:
            ray.init(
                address=settings.address or "local",  # with None Ray joins whatever was started on this machine
                logging_level=logging.ERROR,
                log_to_driver="--debug" in sys.argv,
                runtime_env={"env_vars": {"PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}},
                **local,
            )
            break
        except Exception as error:  # Ray has no class of its own for it
            if "timed out during startup" not in str(error) or not tries_left:
                raise
            log.warning("Ray did not start within its 30 s: trying again")
    try:
        yield
    finally:
        ray.shutdown()
