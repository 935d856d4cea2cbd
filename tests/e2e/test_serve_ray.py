"""`millrace serve --on ray` as its clients meet it: on a Ray of its own, and on two nodes with a replica killed."""

import http.client
import json
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from engines.serving import Server, copied, serving, wait_until
from support import FinishedDay, Millrace, run_front_door

from training.compat import ray_on_loopback

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

BUDGET = "serving.budget_ms=10000"  # others use the machine, too
START_S = 180  # Ray's processes and those of Serve start one after the other
TOKEN = "0123456789abcdef"


@pytest.fixture
def home(finished_day: FinishedDay, tmp_path: Path) -> Path:
    return copied(finished_day, tmp_path / "home")


def landed(home: Path) -> Counter[str]:
    """Event id -> how often it is in the landing zone."""
    files = (home / "landing" / "events").rglob("serve-*.log")
    return Counter(json.loads(line)["event_id"] for path in files for line in path.read_text().splitlines())


def click(event_id: str, user: str, item: str) -> dict[str, str]:
    return {
        "event_id": event_id,
        "type": "click",
        "user_id": user,
        "item_id": item,
        "ts": datetime.now(UTC).isoformat(),
    }


def replicas(raylets: list[int]) -> list[int]:
    """The replicas of nodes, by the processes of their raylets."""
    processes = [process for pid in raylets for process in psutil.Process(pid).children()]
    return [process.pid for process in processes if is_replica(process)]


def is_replica(process: psutil.Process) -> bool:
    with suppress(psutil.Error):  # it has just been killed
        return " ".join(process.cmdline()).startswith("ray::ServeReplica")
    return False


def test_a_ray_of_its_own_answers_learns_and_leaves_nothing_behind(home: Path) -> None:
    """Nothing that it starts can be reached from other machines: `serving` looks all the while."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with serving(home, BUDGET, "serving.on=ray", start_s=START_S, MILLRACE__SERVING__TOKEN=TOKEN) as server:
        assert server.ask("/v1/recommend", {"user": "u1"})[0] == 401
        status, before, _ = server.ask("/v1/recommend", {"user": "u1", "n": 10}, headers)
        assert status == 200
        chosen = before["items"][0]["item"]
        event = click("ray-1", "u1", chosen)
        answers = [server.ask("/v1/events", event, headers)[1] for _ in range(2)]
        assert answers == [{"accepted": 1, "repeated": 0}, {"accepted": 0, "repeated": 1}]
        after = server.ask("/v1/recommend", {"user": "u1", "n": 10}, headers)[1]
        assert chosen not in [item["item"] for item in after["items"]]
        assert server.ask("/v1/rank", {"user": "u1", "items": "i1"}, headers)[1]["error"].startswith("items: ")
        assert server.ask("/v1/rank", b" " * 300_000, headers)[0] == 413
        metrics = server.ask("/metrics", headers=headers)[1]
        assert 'millrace_requests_total{path="/v1/events",status="200"} 2.0' in metrics
        started = psutil.Process(server.process.pid).children(recursive=True)
        server.process.terminate()
        out, error = server.process.communicate(timeout=60)
    assert server.process.returncode == 0, error
    assert json.loads(out)["events"] == 1
    assert landed(home) == {"ray-1": 1}
    assert not psutil.wait_procs(started, timeout=20)[1]
    assert TOKEN not in error


def test_what_is_wrong_is_said_before_ray_starts(tmp_path: Path) -> None:
    code, _, error = run_front_door("serve", "--on", "ray", home=tmp_path)
    assert (code, error.strip()) == (1, "millrace: no promoted lists: run `millrace run --date DAY` first")
    code, _, error = run_front_door("serve", "--on", "ray", "--host", "0.0.0.0", home=tmp_path)
    assert code == 1
    assert "MILLRACE__SERVING__TOKEN" in error


def test_a_cluster_that_nobody_answers_for_is_named(home: Path) -> None:
    assert "can't reach Ray at 127.0.0.1:1 (ray.address): Connection refused" in refusal(
        home, "ray.address=127.0.0.1:1"
    )


@contextmanager
def two_nodes() -> Iterator[tuple[str, list[int]]]:
    """A cluster of two nodes with a CPU each: its address, and the processes that started its workers."""
    with ray_on_loopback():
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        try:
            cluster.add_node(num_cpus=1)
            raylets = [info.process.pid for node in cluster.list_all_nodes() for info in node.all_processes["raylet"]]
            yield cluster.address, raylets
        finally:
            cluster.shutdown()


class Clients:
    """Threads that send clicks and ask for lists until they are stopped."""

    def __init__(self, server: Server, number: int) -> None:
        self._server, self._stopped = server, threading.Event()
        self.accepted: list[str] = []
        self.answers: list[tuple[float, str, int]] = []
        """When each request began, its path and status; 0 without an answer."""
        self._threads = [threading.Thread(target=self._work, args=(n,)) for n in range(number)]

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _work(self, worker: int) -> None:
        number = 0
        while not self._stopped.is_set():
            number += 1
            event = click(f"w{worker}-{number}", f"u{worker + 1}", f"i{number % 50 + 1}")
            # The same event again until it is acknowledged, as a client does.
            while self._ask("/v1/events", event) != 200 and not self._stopped.is_set():
                time.sleep(0.02)
            self._ask("/v1/recommend", {"user": f"u{worker + 1}", "n": 5})

    def _ask(self, path: str, body: dict[str, Any]) -> int:
        began, status = time.monotonic(), 0
        with suppress(OSError, http.client.HTTPException):
            status = self._server.ask(path, body)[0]
        self.answers.append((began, path, status))
        if path == "/v1/events" and status == 200:
            self.accepted.append(body["event_id"])
        return status


@pytest.mark.wide
def test_two_nodes_answer_after_one_lost_its_replica(home: Path, finished_day: FinishedDay) -> None:
    with two_nodes() as (address, raylets):
        ray = ("serving.on=ray", f"ray.address={address}")
        with serving(home, *ray, BUDGET, "serving.roll_s=1", workers=2, start_s=START_S) as server:
            first = replicas(raylets)
            assert len(first) == 2
            assert [len(replicas([raylet])) for raylet in raylets] == [1, 1]
            with Clients(server, 3) as clients:
                wait_until(lambda: len(clients.accepted) > 20)
                psutil.Process(first[0]).send_signal(signal.SIGKILL)
                wait_until(lambda: len(set(replicas(raylets)) - set(first)) == 1)
                noticed_at, count = time.monotonic(), len(clients.accepted)
                wait_until(lambda: len(clients.accepted) > count + 30)
            # What the replica was at, and what was sent to it until Ray noticed, gets an answer by Ray.
            assert {status for _, _, status in clients.answers} <= {200, 408, 500}
            after = [status for began, _, status in clients.answers if began > noticed_at]
            assert len(after) > 30
            assert set(after) == {200}
            # Both replicas know what either has accepted: one of them has read it.
            recent = {server.ask("/v1/models")[1]["current"]["recent_events"] for _ in range(20)}
            assert recent == {len(clients.accepted)}
            other = copied(finished_day, home.parent / "other")
            assert "the cluster's Ray Serve has millrace-" in refusal(other, *ray)
            assert "another server works with" in refusal(home, *ray)
        too_many = refusal(home, *ray, "serving.workers=3", "serving.launch_timeout_s=12")
        assert "2 of 3 workers answer after 12 s" in too_many
        assert "the cluster has 2 CPUs, 0 of them free, and each worker books 1 (serving.cpus_per_worker)" in too_many
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            assert f"can't listen on 127.0.0.1:{port}" in refusal(home, *ray, f"serving.port={port}")
        assert landed(home) == Counter(dict.fromkeys(clients.accepted, 1))


def refusal(home: Path, *settings: str) -> str:
    """The one line by which the command ends."""
    options = ["--set", "serving.port=0", *(word for setting in settings for word in ("--set", setting))]
    done = Millrace(home)("serve", "--on", "ray", *options, timeout=200)
    assert done.returncode == 1
    return done.stderr.strip().splitlines()[-1]
