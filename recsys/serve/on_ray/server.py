"""`millrace serve --on ray`: starts replicas under Ray Serve, looks after them until it is stopped, and ends them.

The command answers nothing. It builds the state of what is promoted, and lands what is left when all have ended.
"""

import io
import json
import logging
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from conf import Config, Paths, UserError
from conf.atomic import write_atomically
from conf.machine.network import is_loopback
from conf.machine.processes import free_port, stop_signals
from recsys.serve.server import ADDRESS, DRAIN_S, LOOP_S
from recsys.serve.settings import ServingSettings, check_exposure

log = logging.getLogger(__name__)

DEPLOYMENT = "millrace"
ATTEMPTS = 2  # of all replicas together to load the models, before the start has failed
COMMIT_S = 2.0  # for a slow disk to take events
WAIT_LOOP_S = 0.2  # between two looks whether a replica that ends has answered everything
_USER_ERROR = re.compile(r"\bUserError: (.+)")


def run(config: Config) -> dict[str, Any]:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        config: `serving.*`, `ray.*`, and what is promoted below the home.

    Returns:
        Seconds of service, replicas, and events that landed when it ended.

    Raises:
        UserError: nothing is promoted, the port is taken, another server has this home or this cluster, the cluster has
            no room or does not see the home, or others could get in.
    """
    settings, folder = config.get(ServingSettings), config.get(Paths).root / "serving"
    check_exposure(settings)
    folder.mkdir(parents=True, exist_ok=True)
    from recsys.serve.lineup import build_states, lineup_keys

    lineup_keys(config)  # before Ray starts: whether anything is promoted
    try:
        with FileLock(folder / "lock", blocking=False):
            build_states(config)
            return _run_locked(config, settings, folder)
    except Timeout:
        raise UserError(f"another server works with {folder}: stop it first") from None


def _run_locked(config: Config, settings: ServingSettings, folder: Path) -> dict[str, Any]:
    from recsys.serve.on_ray.replica import STARTED
    from training.launch.ray_session import ray_session

    started, landed = time.monotonic(), _land_all(config)
    for metrics in folder.glob("machines/*/metrics"):
        shutil.rmtree(metrics, ignore_errors=True)
    # Ray before the signals: it has a handler of SIGTERM of its own.
    with ExitStack() as output, ray_session(config), stop_signals() as signals:
        from ray import serve

        # Ray prints what befalls its processes; this command's output is one line of counts.
        output.enter_context(redirect_stdout(sys.stderr))
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        port = _start_serve(settings, folder)
        try:
            start = secrets.token_hex(8)
            write_atomically(folder / STARTED, start)
            _deploy(config, settings, start)
            if _wait_until_running(settings, signals):
                url = f"http://[{settings.host}]:{port}" if ":" in settings.host else f"http://{settings.host}:{port}"
                write_atomically(folder / ADDRESS, json.dumps({"pid": os.getpid(), "url": url, "on": "ray"}))
                log.info("%s answers after %.1f s; %s/docs describes it", url, time.monotonic() - started, url)
                _supervise(config, settings, signals)
        finally:
            (folder / ADDRESS).unlink(missing_ok=True)
            # Serve's controller ends by a kill, which Ray would tell of as a failure.
            output.enter_context(redirect_stdout(io.StringIO()))
            serve.shutdown()
    landed += _land_all(config)
    return {"seconds": round(time.monotonic() - started, 1), "workers": settings.workers, "events": landed}


def _start_serve(settings: ServingSettings, folder: Path) -> int:
    """Start Ray Serve, whose only application this will be; returns the port.

    Raises UserError when the cluster serves something else, or the port is taken.
    """
    from ray import serve

    others = [name for name in serve.status().applications if name != _application(folder)]
    if others:
        raise UserError(f"the cluster's Ray Serve has {', '.join(others)} already: stop it, or take another cluster")
    serve.shutdown()  # what a command that was killed has left; nothing otherwise
    # The head of a cluster may be another machine; Ray says then what is wrong with the port.
    port = free_port(settings.host, settings.port, setting="serving.port")
    # Other machines enter at any node that has a replica.
    location = "HeadOnly" if is_loopback(settings.host) else "EveryNode"
    # A request to a replica that is killed may wait until then: Ray does not always notice.
    longest = settings.read_s + settings.budget_ms / 1000 + COMMIT_S
    http = {"host": settings.host, "port": port, "request_timeout_s": longest}
    try:
        serve.start(proxy_location=location, http_options=http, logging_config=_quiet())
    except Exception as error:  # Ray's are of many kinds
        serve.shutdown()
        line = str(error).strip().splitlines()[-1]
        raise UserError(f"Ray Serve can't listen on {settings.host}:{port} (serving.port): {line}") from None
    return port


def _quiet() -> dict[str, Any]:
    return {"log_level": "WARNING", "enable_access_log": False}  # /metrics counts requests


def _application(folder: Path) -> str:
    """The application's name in Ray Serve: of a home."""
    from recsys.serve.state.arrays import hash_of

    return f"{DEPLOYMENT}-{hash_of(str(folder)):016x}"


def _deploy(config: Config, settings: ServingSettings, start: str) -> None:
    from ray import serve

    from recsys.serve.on_ray.replica import Replica

    deployment = serve.deployment(
        name=DEPLOYMENT,
        num_replicas=settings.workers,
        ray_actor_options={"num_cpus": settings.cpus_per_worker},
        # The replica refuses what is too much, at once and with 429: Ray would let it wait.
        max_ongoing_requests=settings.max_connections,
        max_constructor_retry_count=ATTEMPTS,
        graceful_shutdown_timeout_s=DRAIN_S,
        graceful_shutdown_wait_loop_s=WAIT_LOOP_S,
        logging_config=_quiet(),
    )(Replica)
    # Ray keeps what replicas are started with: of the secrets only those that they need.
    secrets_needed = {"serving.token": settings.token, "serving.redis": settings.redis}
    values = {name: secret.get_secret_value() for name, secret in secrets_needed.items() if secret}
    public = config.without_secrets()[0].with_values(values)
    target = serve.RunTarget(
        deployment.bind(public, start), name=_application(config.get(Paths).root / "serving"), route_prefix="/"
    )
    serve.run_many([target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)


def _wait_until_running(settings: ServingSettings, signals: list[int]) -> bool:
    """Wait until every replica answers; False when this process was asked to stop meanwhile.

    Raises UserError when one can't start, or not in time.
    """
    from ray import serve

    deadline = time.monotonic() + settings.launch_timeout_s
    while not signals:
        for application in serve.status().applications.values():
            if application.status == "RUNNING":
                return True
            if application.status in ("DEPLOY_FAILED", "UNHEALTHY"):
                raise UserError(_reason(application))
            if time.monotonic() > deadline:
                raise UserError(_no_room(settings, application))
        time.sleep(LOOP_S)
    return False


def _reason(application: Any) -> str:
    """Why an application did not start, in one line: the replica's own words if there are any."""
    text = "\n".join([application.message, *(one.message for one in application.deployments.values())])
    if match := _USER_ERROR.search(text):
        return match[1].strip()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"the replicas can't start: {lines[-1] if lines else application.status}"


def _no_room(settings: ServingSettings, application: Any) -> str:
    import ray

    states = [states.replica_states for states in application.deployments.values()]
    running = sum(state.get("RUNNING", 0) for state in states)
    total, free = (of.get("CPU", 0.0) for of in (ray.cluster_resources(), ray.available_resources()))
    return (
        f"{running} of {settings.workers} workers answer after {settings.launch_timeout_s:g} s "
        f"(serving.launch_timeout_s): the cluster has {total:g} CPUs, {free:g} of them free, and each worker books "
        f"{settings.cpus_per_worker:g} (serving.cpus_per_worker)"
    )


def _supervise(config: Config, settings: ServingSettings, signals: list[int]) -> None:
    """Build the state of what is promoted while replicas answer, which would take the time of their requests."""
    from recsys.serve.lineup import build_states
    from recsys.serve.service import PromotionWatch

    changes, looked = PromotionWatch(config), time.monotonic()
    _or_log(lambda: build_states(config))  # what was promoted while the replicas started
    while not signals:
        time.sleep(LOOP_S)
        if time.monotonic() - looked >= settings.poll_s:
            looked = time.monotonic()
            if changes.has_changed():
                _or_log(lambda: build_states(config))


def _or_log(build: Callable[[], None]) -> None:
    try:
        build()
    except (UserError, OSError) as error:  # the replicas go on with the last publication
        log.error("%s", error)


def _land_all(config: Config) -> int:
    """Land what all machines have left, none of which has a replica now."""
    from recsys.serve.events.landing import land, of_each_machine

    return sum(land(machine, everything=True) for machine in of_each_machine(config))
