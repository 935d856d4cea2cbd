"""Events of several machines' servers through a real Redis: each one once, in and after its outages, over forks."""

import gc
import logging
import os
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from engines.redis_server import RedisServer
from engines.serving import wait_until

from conf import UserError, load
from recsys.serve.events.redis_stream import BATCH, Publisher, StreamReader, connect
from recsys.serve.settings import ServingSettings

YESTERDAY = datetime.now(UTC).date() - timedelta(days=1)


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    yield server
    server.stop()


def settings_of(url: str, **values: object) -> ServingSettings:
    overrides = [f"serving.{name}={value}" for name, value in values.items()]
    return load(overrides=overrides, environment={"MILLRACE__SERVING__REDIS": url}).get(ServingSettings)


def take(reader: StreamReader, number: int) -> list[bytes]:
    """Poll until there are so many events; then none is left."""
    lines: list[bytes] = []
    wait_until(lambda: bool(lines.extend(reader.poll())) or len(lines) >= number, 20)
    time.sleep(0.05)
    assert reader.poll() == []
    return lines


def test_a_reader_has_every_event_once_in_order_those_before_its_start_among_them(redis_server: RedisServer) -> None:
    settings = settings_of(redis_server.url)
    events = [f"{n}".encode() for n in range(2 * BATCH + 5)]
    publisher = Publisher(settings)
    publisher.add(events[:-1])
    publisher.close()
    reader = StreamReader(settings, YESTERDAY, "UTC")
    assert take(reader, len(events) - 1) == events[:-1]
    another = Publisher(settings)
    another.add(events[-1:])
    assert take(reader, 1) == events[-1:]
    another.close()
    # What happened before the publication's day is over is in its state.
    assert StreamReader(settings, YESTERDAY + timedelta(days=2), "UTC").poll() == []
    other_site = settings_of(redis_server.url, redis_stream="other")
    assert StreamReader(other_site, YESTERDAY, "UTC").poll() == []


def test_the_stream_keeps_the_newest_events_only(redis_server: RedisServer) -> None:
    settings = settings_of(redis_server.url, remembered_events=500)
    for first in range(0, 3000, 500):
        publisher = Publisher(settings)
        publisher.add(f"{n}".encode() for n in range(first, first + 500))
        publisher.close()
    # Redis trims whole nodes of its tree.
    assert 500 <= connect(settings).xlen("millrace:events") < 1000
    assert take(StreamReader(settings, YESTERDAY, "UTC"), 500)[-1] == b"2999"


def test_an_outage_is_told_once_and_what_was_sent_meanwhile_comes_after_it(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    settings = settings_of(redis_server.url)
    publisher, reader = Publisher(settings), StreamReader(settings, YESTERDAY, "UTC")
    publisher.add([b"before"])
    assert take(reader, 1) == [b"before"]
    redis_server.stop()
    publisher.add([b"meanwhile"])
    wait_until(lambda: not publisher.link.is_up and not reader.is_up, 20)
    assert reader.poll() == []  # and doesn't wait
    redis_server.start()
    assert take(reader, 1) == [b"meanwhile"]
    wait_until(lambda: publisher.link.is_up and reader.is_up, 20)
    publisher.close()
    told = [record.message for record in caplog.records if record.name.endswith("redis_stream")]
    assert sorted(line.split(" (")[0] for line in told) == ["Redis answers again"] * 2 + ["Redis can't be reached"] * 2
    assert "word" not in caplog.text


def test_a_server_starts_without_redis_and_closes_without_it(tmp_path: Path) -> None:
    settings = settings_of("redis://127.0.0.1:1/0")
    publisher, reader = Publisher(settings), StreamReader(settings, YESTERDAY, "UTC")
    publisher.add([b"event"])
    assert (reader.poll(), reader.is_up) == ([], False)
    started = time.monotonic()
    publisher.close()
    assert time.monotonic() - started < 10


def test_a_forked_worker_goes_on_where_its_parent_was(redis_server: RedisServer) -> None:
    settings = settings_of(redis_server.url)
    publisher, reader = Publisher(settings), StreamReader(settings, YESTERDAY, "UTC")
    publisher.add([b"1"])
    assert take(reader, 1) == [b"1"]
    receive, send = os.pipe()
    if not (child := os.fork()):
        os.write(send, b" ".join(take(reader, 1)))
        os._exit(0)
    time.sleep(0.2)
    publisher.add([b"2"])
    assert os.read(receive, 10) == b"2"
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert take(reader, 1) == [b"2"]
    publisher.close()


def test_a_readers_thread_ends_with_it(redis_server: RedisServer) -> None:
    reader = StreamReader(settings_of(redis_server.url), YESTERDAY, "UTC")
    others = threading.enumerate()  # of readers of other tests, that may be about to end
    reader.poll()
    (thread,) = (one for one in threading.enumerate() if one.name == "redis-reader" and one not in others)
    del reader
    gc.collect()
    thread.join(timeout=20)
    assert not thread.is_alive()


def test_a_url_that_changes_the_protocol_is_refused() -> None:
    with pytest.raises(UserError, match="leave protocol= out of the URL"):
        connect(settings_of("redis://127.0.0.1:6379/0?protocol=3"))


@pytest.mark.parametrize("url", ["host:6379", "http://:hidden-word@host", "redis://:hidden-word@host:port/0"])
def test_a_wrong_address_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(UserError, match=r"^serving\.redis: write it as redis://HOST:6379/0") as refused:
        connect(settings_of(url))
    assert "hidden" not in str(refused.value)
