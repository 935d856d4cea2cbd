"""`millrace serve`: a parent that loads the models once, and forks workers that share its memory.

The parent answers nothing. It replaces workers that die, takes promotions up for those to come, and moves accepted
events to the landing zone.
"""

import ctypes
import gc
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from conf import Config, Paths, UserError
from conf.atomic import write_atomically
from conf.machine.processes import stop_signals
from recsys.serve.settings import ServingSettings, check_exposure

if TYPE_CHECKING:
    from recsys.serve.service import Service

log = logging.getLogger(__name__)

ADDRESS = "server.json"  # below serving/: who listens where, once the server answers
BACKLOG = 1024
LOOP_S = 0.2
DRAIN_S = 10.0  # for requests in flight, when a server stops
CRASH_S = 5.0  # a worker that dies younger than this is replaced after a pause
PR_SET_PDEATHSIG = 1


def run(config: Config) -> dict[str, Any]:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        config: `serving.*`, and what is promoted below the home.

    Returns:
        Seconds of service, workers that were replaced, and events that landed.

    Raises:
        UserError: nothing is promoted, the port is taken, another server has this home, or others could get in.
    """
    settings, folder = config.get(ServingSettings), config.get(Paths).root / "serving"
    check_exposure(settings)
    folder.mkdir(parents=True, exist_ok=True)
    # A request has too few rows for threads, and workers share the cores. Read when the libraries are loaded.
    os.environ["OMP_NUM_THREADS"] = "1"
    from recsys.serve.http.metrics import prepare_folder

    try:
        with FileLock(folder / "lock", blocking=False), stop_signals() as signals:
            prepare_folder(folder / "metrics")
            return _serve(config, settings, folder, signals)
    except Timeout:
        raise UserError(f"another server works with {folder}: stop it first") from None


def _serve(config: Config, settings: ServingSettings, folder: Path, signals: list[int]) -> dict[str, Any]:
    from recsys.serve.events.landing import land
    from recsys.serve.service import Service

    started = time.monotonic()
    # First: a port that is taken is known at once. Nobody listens yet, so that no request waits for the models.
    listener = _bind(settings)
    service = Service(config)
    listener.listen(BACKLOG)
    listener.setblocking(False)
    # What is loaded stays shared: the collector of garbage would write to every page.
    gc.collect()
    # After the last collection: what is frozen is never looked at, and so never copied on write.
    gc.freeze()
    workers = _Workers(settings.workers, lambda: _work(service, listener))
    try:
        workers.keep_up()
        address = _address(listener)
        about = {"pid": os.getpid(), "url": address, "workers": list(workers.pids)}
        write_atomically(folder / ADDRESS, json.dumps(about))
        log.info("%s answers after %.1f s; %s/docs describes it", address, time.monotonic() - started, address)
        landed = _supervise(service, workers, signals, folder, about)
    finally:
        # First of all: nobody shall find the address of a server that is stopping.
        (folder / ADDRESS).unlink(missing_ok=True)
        listener.close()
        workers.stop()
    # After the workers have ended: they accept events until then.
    landed += land(config, everything=True)
    return {"seconds": round(time.monotonic() - started, 1), "replaced": workers.replaced, "events": landed}


def _supervise(service: "Service", workers: "_Workers", signals: list[int], folder: Path, about: dict[str, Any]) -> int:
    from recsys.serve.events import landing
    from recsys.serve.service import PromotionWatch

    changes, landed, looked = PromotionWatch(service.config), 0, time.monotonic()
    service.take_up()  # what was promoted while the models were loaded
    while not signals:
        time.sleep(LOOP_S)
        if workers.keep_up():
            write_atomically(folder / ADDRESS, json.dumps({**about, "workers": list(workers.pids)}))
        service.lineup.catch_up()
        if time.monotonic() - looked < service.settings.poll_s:
            continue
        looked = time.monotonic()
        landed += landing.land(service.config)
        if changes.has_changed():
            service.take_up()
    return landed


def _bind(settings: ServingSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family)
    # Else the port is taken for a minute after a restart, by connections that were just closed.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        raise UserError(f"can't listen on {settings.host}:{settings.port} (serving.port): {error.strerror}") from None
    return listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Workers:
    """Child processes, each replaced when it dies."""

    def __init__(self, number: int, work: Callable[[], None]) -> None:
        self._number, self._work = number, work
        self._started: dict[int, float] = {}
        self._not_before = 0.0
        self.replaced = 0

    @property
    def pids(self) -> list[int]:
        return list(self._started)

    def keep_up(self) -> bool:
        """Replace the workers that have died; whether there is any new one."""
        for pid in self.pids:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self._forget(pid, status)
        missing = self._number - len(self._started)
        if missing <= 0 or time.monotonic() < self._not_before:
            return False
        for _ in range(missing):
            pid = os.fork()
            if not pid:
                _run_child(self._work)
            self._started[pid] = time.monotonic()
        return True

    def _forget(self, pid: int, status: int) -> None:
        from prometheus_client.multiprocess import mark_process_dead

        age = time.monotonic() - self._started.pop(pid)
        self.replaced += 1
        log.warning("worker %d ended (%d) after %.0f s; it is replaced", pid, os.waitstatus_to_exitcode(status), age)
        # Its gauges would be added to the others' for ever; its counters stay.
        mark_process_dead(pid)  # type: ignore[no-untyped-call]  # the library has no types for it
        # A worker that can't start would be forked in a loop.
        if age < CRASH_S:
            self._not_before = time.monotonic() + 1.0

    def stop(self) -> None:
        """Let the workers finish what they are at, and end those that don't."""
        for pid in self.pids:
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + DRAIN_S
        for pid in self.pids:
            while not os.waitpid(pid, os.WNOHANG)[0]:
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                    break
                time.sleep(0.02)
            del self._started[pid]


def _run_child(work: Callable[[], None]) -> None:
    """Run a worker in this forked process, which never returns to the parent's code."""
    code = 1
    try:
        if sys.platform == "linux":  # a worker without its parent would go on, and nobody would replace it
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        work()
        code = 0
    except BaseException:
        log.exception("worker %d failed", os.getpid())
    finally:
        # `os._exit` runs no clean-up of the parent's, such as its locks; the log is flushed by hand.
        logging.shutdown()
        os._exit(code)


def _work(service: "Service", listener: socket.socket) -> None:
    import asyncio

    import uvicorn
    import uvloop

    from recsys.serve.http.app import Application
    from recsys.serve.http.protocol import GuardedProtocol

    # While a thread loads another publication, the loop gets its turn within half a millisecond and not within five.
    sys.setswitchinterval(0.0005)
    # A line for each malformed request would let anybody fill the disk.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    settings = service.settings
    protocol = GuardedProtocol.limited(settings.read_s, settings.max_connections)
    server = uvicorn.Server(
        uvicorn.Config(
            Application(service).asgi(),
            http=protocol,
            loop="none",
            ws="none",
            lifespan="on",  # an application that can't start must end the worker
            log_config=None,
            access_log=False,  # /metrics counts requests
            server_header=False,
            timeout_graceful_shutdown=int(DRAIN_S) - 2,
        )
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(server.serve(sockets=[listener]))
