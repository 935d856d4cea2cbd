"""Latency of `millrace serve` in an open loop, its capacity, and what it does beyond it.

python -m benchmarks.serve --home .millrace           # a home where `millrace demo` has run; three minutes
python -m benchmarks.serve --home .millrace --seconds 120 --workers 2

Requests start at random moments (Poisson) whether or not earlier ones were answered, and latencies count from the
moment that a request was due: a client that waits for a slow server leaves the slow moments out (coordinated omission).
Client and server share this machine's cores; the load average is printed beside each figure.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
import uvloop

from conf import load
from recsys.serve.snapshot import published

CONNECTIONS = 64
DRAIN_S = 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True, help="a home with promoted lists")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--workers", type=int, default=1, help="of the server")
    options = parser.parse_args()
    users, items = ids(options.home)
    with Server(options.home, options.workers) as server:
        print(f"{psutil.cpu_count()} cores, {options.workers} worker(s); ready after {server.ready_s:.1f} s\n")
        figures: dict[str, Any] = {"ready_s": round(server.ready_s, 2)}
        print(f"  {'':<28}{'asked':>9}{'p50':>8}{'p99':>8}{'p99.9':>8}{'max':>8}{'server':>8}  answers")
        for name, path, size, rate, target in (
            ("rank 100 items, 100/s", "/v1/rank", 100, 100, 5),
            ("rank 100 items, 200/s", "/v1/rank", 100, 200, 10),
            ("rank 300 items, 100/s", "/v1/rank", 300, 100, 15),
            ("recommend 20, 100/s", "/v1/recommend", 20, 100, 10),
        ):
            bodies = make_bodies(path, size, users, items)
            measured = open_loop(server.port, path, bodies, rate, options.seconds)
            figures[name] = show(name, measured, f"p99 ≤ {target}")
        bodies = make_bodies("/v1/rank", 100, users, items)
        capacity = closed_loop(server.port, "/v1/rank", bodies, 8.0)
        print(f"\n  capacity: {capacity:.0f} rank requests/s (8 clients, each waiting for its answer)\n")
        overload = open_loop(server.port, "/v1/rank", bodies, 2 * capacity, options.seconds / 2)
        figures |= {"capacity": round(capacity), "2 x capacity": show("rank at 2 x capacity", overload, "p99 ≤ 50")}
        figures["memory_mb"] = server.memory()
        print(f"\n  memory of a worker: {figures['memory_mb']}")
    print(json.dumps(figures))


class Server:
    """`millrace serve` on a free port."""

    def __init__(self, home: Path, workers: int, *arguments: str) -> None:
        self._command = [str(Path(sys.executable).parent / "millrace"), "serve", "--port", "0"]
        self._command += ["--workers", str(workers), *arguments]
        self._address = home.resolve() / "serving" / "server.json"
        self._environment = {**os.environ, "MILLRACE_HOME": str(home.resolve())}
        self.about: dict[str, Any] = {}

    def __enter__(self) -> "Server":
        started = time.monotonic()
        self._address.unlink(missing_ok=True)
        self._process = subprocess.Popen(self._command, env=self._environment, stdout=subprocess.DEVNULL)
        while not self._address.exists():
            if self._process.poll() is not None or time.monotonic() - started > 60:
                raise SystemExit("the server did not start")
            time.sleep(0.02)
        self.about = json.loads(self._address.read_text())
        asyncio.run(_until_ready(self.port))
        self.ready_s = time.monotonic() - started
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(timeout=30)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.about["url"].rsplit(":", 1)[1])

    def memory(self) -> dict[str, int]:
        """MB of the first worker: RSS with what is shared, PSS with its part of that."""
        info = psutil.Process(self.about["workers"][0]).memory_full_info()
        return {"rss": info.rss >> 20, "pss": info.pss >> 20}


async def _until_ready(port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.01)
            continue
        writer.close()
        return


class Connection(asyncio.Protocol):
    """Sends one request at a time, and tells when its answer has come."""

    def __init__(self, pool: "list[Connection]") -> None:
        self._pool, self._data, self._done = pool, b"", None
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def send(self, request: bytes, done: Any) -> None:
        """Send a request; `done(status, body)` is called once, status 0 for a lost connection."""
        self._done = done
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, separator, body = self._data.partition(b"\r\n\r\n")
        if not separator:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        if len(body) >= length:
            self._data, done, self._done = b"", self._done, None
            self._pool.append(self)
            if done is not None:
                done(int(head[9:12]), body)

    def connection_lost(self, _: Exception | None) -> None:
        if self in self._pool:
            self._pool.remove(self)
        done, self._done = self._done, None
        if done is not None:
            done(0, b"")


def request_bytes(path: str, body: bytes) -> bytes:
    """A POST of JSON."""
    return b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (path.encode(), len(body), body)


def open_loop(port: int, path: str, bodies: Sequence[bytes], rate: float, seconds: float) -> dict[str, Any]:
    """Send requests at `rate` for `seconds`; milliseconds of each answered one, and answers by status and rung."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_open_loop(port, path, bodies, rate, seconds))


async def _open_loop(port: int, path: str, bodies: Sequence[bytes], rate: float, seconds: float) -> dict[str, Any]:
    loop, pool = asyncio.get_running_loop(), []  # type: ignore[var-annotated]
    rng = random.Random(5)
    for _ in range(CONNECTIONS):
        pool.append((await loop.create_connection(lambda: Connection(pool), "127.0.0.1", port))[1])
    latencies: list[float] = []
    took: list[float] = []
    statuses: Counter[str] = Counter()
    requests = [request_bytes(path, body) for body in bodies]

    def send(due: float, number: int) -> None:
        def done(status: int, body: bytes) -> None:
            statuses[str(status) + _rung(body)] += 1
            if status == 200:
                latencies.append((loop.time() - due) * 1000)
                took.append(float(body.rpartition(b":")[2].rstrip(b"}")))

        if pool:
            pool.pop().send(requests[number % len(requests)], done)
        else:  # every connection waits: the request is late by what it takes to open one
            loop.create_task(_send_new(loop, pool, port, requests[number % len(requests)], done))

    due, number, end = loop.time() + 0.2, 0, loop.time() + 0.2 + seconds
    while due < end:
        loop.call_at(due, send, due, number)
        due, number = due + rng.expovariate(rate), number + 1
    await asyncio.sleep(seconds + 0.2)
    deadline = loop.time() + DRAIN_S
    while sum(statuses.values()) < number and loop.time() < deadline:
        await asyncio.sleep(0.01)
    statuses["no answer"] += number - sum(statuses.values())
    for connection in list(pool):
        connection.transport.close()
    return {"latencies": latencies, "took": took, "statuses": {name: n for name, n in statuses.items() if n}}


async def _send_new(loop: Any, pool: list[Connection], port: int, request: bytes, done: Any) -> None:
    try:
        _, connection = await loop.create_connection(lambda: Connection(pool), "127.0.0.1", port)
    except OSError:
        done(0, b"")
        return
    connection.send(request, done)


def _rung(body: bytes) -> str:
    """The rung that an answer names, as ` (fine)`."""
    return f" ({json.loads(body)['degraded']})" if b'"degraded"' in body[:200] else ""


def closed_loop(port: int, path: str, bodies: Sequence[bytes], seconds: float, clients: int = 8) -> float:
    """Full answers a second when each of `clients` waits for its answer before it asks again."""

    async def ask() -> int:
        loop, pool = asyncio.get_running_loop(), []  # type: ignore[var-annotated]
        end, answers = loop.time() + seconds, 0

        async def client(number: int) -> None:
            nonlocal answers
            _, connection = await loop.create_connection(lambda: Connection(pool), "127.0.0.1", port)
            while loop.time() < end:
                number += clients
                answered = loop.create_future()
                connection.send(
                    request_bytes(path, bodies[number % len(bodies)]),
                    lambda status, _, a=answered: a.set_result(status),
                )
                status = await answered
                answers += status == 200
                if status != 200:  # refused: who asks again at once would only be refused again
                    await asyncio.sleep(0.01)

        await asyncio.gather(*(client(number) for number in range(clients)))
        return answers

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(ask()) / seconds


def ids(home: Path) -> tuple[list[str], list[str]]:
    """Users and items of the published lists."""
    lists = published(load(overrides=[f"paths.home={home}"])).lists / "recommendations.parquet"
    table = pq.read_table(lists, columns=["user_id", "item_id"])
    return table["user_id"].unique().to_pylist(), table["item_id"].unique().to_pylist()


def make_bodies(path: str, size: int, users: Sequence[str], items: Sequence[str]) -> list[bytes]:
    """400 requests of random users; for rank of random items."""
    rng = random.Random(3)
    bodies = []
    for _ in range(400):
        query: dict[str, Any] = {"user": rng.choice(users)}
        query |= {"n": size} if path == "/v1/recommend" else {"items": rng.sample(items, min(size, len(items)))}
        bodies.append(json.dumps(query).encode())
    return bodies


def show(name: str, measured: dict[str, Any], asked: str) -> dict[str, Any]:
    """Print a line of the table; its figures."""
    ms = np.array(measured["latencies"]) if measured["latencies"] else np.full(1, np.nan)
    figures = {
        label: round(float(np.quantile(ms, q)), 2) for label, q in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999))
    }
    figures |= {"max": round(float(ms.max()), 2)}
    # From the arrival in the server's loop to the answer: without the client and the sockets.
    figures |= {"server p99": round(float(np.quantile(measured["took"] or [np.nan], 0.99)), 2)}
    load_1 = os.getloadavg()[0]
    cells = "".join(f"{value:>8.1f}" for value in figures.values())
    print(f"  {name:<28}{asked:>9}{cells}  {measured['statuses']}, load {load_1:.1f}", flush=True)
    return {**figures, "statuses": measured["statuses"], "load": round(load_1, 1)}


if __name__ == "__main__":
    main()
