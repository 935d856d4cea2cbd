"""Prometheus metrics of all workers; prometheus_client adds up the processes through files of a folder."""

import os
import shutil
from pathlib import Path
from typing import Any

import psutil

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # read when prometheus_client is imported


def prepare_folder(folder: Path) -> None:
    """Empty the folder of the processes' values, and tell prometheus_client of it before anybody imports it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.environ[FOLDER_VARIABLE] = str(folder)


def forget_ended(folder: Path) -> None:
    """Remove the gauges of processes that have ended: they would be added to the others' for ever."""
    from prometheus_client.multiprocess import mark_process_dead

    pids = {int(path.stem.rpartition("_")[2]) for path in folder.glob("gauge_live*.db")}
    for pid in filter(lambda pid: not psutil.pid_exists(pid), pids):
        mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]  # the library has no types for it


class Metrics:
    """What the server counts."""

    def __init__(self, machines: Path | None = None) -> None:
        """Create the metrics, once a process.

        Args:
            machines: folder of the machines of a cluster, whose processes count as well.
        """
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self._machines = machines
        self._registry = registry = CollectorRegistry()
        fine = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 1.0)
        self.requests = Counter("millrace_requests", "Requests", ["path", "status"], registry=registry)
        self.latency = Histogram(
            "millrace_request_seconds",
            "Seconds from a request's arrival to its answer",
            ["path"],
            buckets=fine,
            registry=registry,
        )
        self.steps = Histogram(
            "millrace_step_seconds", "Seconds of each step of an answer", ["step"], buckets=fine, registry=registry
        )
        self.rungs = Counter(
            "millrace_answers", "Answers by the last rung of the ladder", ["path", "rung"], registry=registry
        )
        self.degraded = Counter("millrace_degraded", "Answers below the highest rung", ["reason"], registry=registry)
        self.refused = Counter("millrace_refused", "Requests that were refused", ["reason"], registry=registry)
        self.unknown_items = Counter("millrace_unknown_items", "Items to rank that are not known", registry=registry)
        self.events = Counter("millrace_events", "Events that are durable", ["type"], registry=registry)
        self.repeated = Counter("millrace_events_repeated", "Events that were sent before", registry=registry)
        self.swaps = Counter("millrace_swaps", "Publications taken up while serving", ["result"], registry=registry)
        self.waiting = Gauge(
            "millrace_events_waiting", "Events not yet on disk", multiprocess_mode="livesum", registry=registry
        )
        self.model_age = Gauge(
            "millrace_model_age_seconds",
            "Seconds since the end of the day that models and lists are of",
            multiprocess_mode="livemax",
            registry=registry,
        )
        self.event_age = Gauge(
            "millrace_newest_event_age_seconds",
            "Seconds since the newest event that features know",
            multiprocess_mode="livemin",
            registry=registry,
        )
        self.recent = Gauge(
            "millrace_recent_events",
            "Events since the models' day that are kept in memory",
            multiprocess_mode="livemax",
            registry=registry,
        )
        self.redis_up = Gauge(
            "millrace_redis_up",
            "1 while events come from and go to other machines, 0 while Redis can't be reached",
            multiprocess_mode="livemin",
            registry=registry,
        )
        self.missing = Gauge(
            "millrace_missing_rankers",
            "Rankers of the blend that could not be loaded",
            multiprocess_mode="livemax",
            registry=registry,
        )

    def text(self) -> bytes:
        """All metrics in Prometheus' text format, of every worker when there is a folder for them."""
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.multiprocess import MultiProcessCollector

        if FOLDER_VARIABLE not in os.environ:
            return bytes(generate_latest(self._registry))
        registry = CollectorRegistry()
        if self._machines is None:
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # the library has no types for it
        else:
            registry.register(_Machines(self._machines))
        return bytes(generate_latest(registry))


class _Machines:
    """A collector of the values of all processes on all machines."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Any:
        """All metrics, added up; prometheus_client asks for them."""
        from prometheus_client.multiprocess import MultiProcessCollector

        files = [str(path) for path in self._folder.glob("*/metrics/*.db")]
        return MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]  # the library has no types for it
