"""Events that servers of other machines have accepted, by one Redis stream that all of them append to and read.

The journal stays what an answer waits for and what lands. Redis only lets an event that another machine has accepted
count at once. While it can't be reached, each server goes on with its own events, and catches up afterwards.
"""

import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from conf import UserError
from conf.clock import day_start
from recsys.serve.events.event import MAX_AHEAD
from recsys.serve.settings import ServingSettings

log = logging.getLogger(__name__)

FIELD = b"event"
BATCH = 1000  # events of one command or pipeline
BLOCK_MS = 1000  # that a reader waits for the next event
TIMEOUT_S = 3.0  # more than BLOCK_MS
PAUSE_S = 0.5  # between two tries while Redis can't be reached
BACKLOG_S = 60.0  # for what is there already, when a publication is loaded


def connect(settings: ServingSettings) -> "redis.Redis":
    """A client, which connects with its first command.

    Raises:
        UserError: `serving.redis` is no URL of a Redis server; the line doesn't repeat it, as it may hold a password.
    """
    assert settings.redis is not None
    try:
        # No retries of the client's own: both threads below try again, and tell that they do.
        client = redis.Redis.from_url(
            settings.redis.get_secret_value(),
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError:
        raise UserError(
            "serving.redis: write it as redis://HOST:6379/0, or rediss://USER:PASSWORD@HOST:6379/0 with TLS"
        ) from None
    if client.get_connection_kwargs().get("protocol") not in (None, 2):  # by which answers have another shape
        raise UserError("serving.redis: leave protocol= out of the URL")
    return client


class Link:
    """Whether Redis answers, of which the log tells changes only."""

    def __init__(self, does: str) -> None:
        self._does = does
        self.is_up = True

    def up(self) -> None:
        """Redis has answered."""
        if not self.is_up:
            log.info("Redis answers again (serving.redis)")
        self.is_up = True

    def down(self, error: Exception) -> None:
        """Redis has not."""
        if self.is_up:
            # The class, as a message may repeat the address with its user.
            log.error("Redis can't be reached (serving.redis; %s): %s", type(error).__name__, self._does)
        self.is_up = False


class Publisher:
    """Sends accepted events to the other machines, in a thread: no request waits for Redis.

    Args:
        settings: `serving.redis`, its stream, and how many events the stream holds at most.
    """

    def __init__(self, settings: ServingSettings) -> None:
        self._settings = settings
        self._client = connect(settings)
        # While Redis can't be reached; the oldest are dropped first, and count from the next day's run on.
        self._pending: deque[bytes] = deque(maxlen=settings.remembered_events)
        self._batch: list[bytes] = []  # on its way
        self._wake, self._is_closed = threading.Event(), False
        self.link = Link("other machines don't see this one's events until it is back")
        self._thread = threading.Thread(target=self._run, name="redis-publisher", daemon=True)
        self._thread.start()

    def add(self, lines: Iterable[bytes]) -> None:
        """Send events, as lines of the journal, soon."""
        self._pending.extend(lines)
        self._wake.set()

    def close(self) -> None:
        """Send what is left, if Redis answers."""
        self._is_closed = True
        self._wake.set()
        self._thread.join(timeout=TIMEOUT_S)

    def _run(self) -> None:
        while not self._is_closed or self._pending:
            self._wake.wait()
            self._wake.clear()
            while self._pending or self._batch:
                try:
                    self._send()
                    self.link.up()
                except Exception as error:  # whatever it is: the thread must outlast it
                    self.link.down(error)
                    if self._is_closed:
                        return
                    time.sleep(PAUSE_S)

    def _send(self) -> None:
        """Append the oldest events; what was sent before an error is sent again, and counts once."""
        # Out of the queue before it is sent: a full queue drops its oldest events while others are added.
        while self._pending and len(self._batch) < BATCH:
            self._batch.append(self._pending.popleft())
        with self._client.pipeline(transaction=False) as pipeline:
            for line in self._batch:
                pipeline.xadd(self._settings.redis_stream, {FIELD: line}, maxlen=self._settings.remembered_events)
            pipeline.execute()
        self._batch = []


class _Feed:
    """What a reader's thread has in common with it."""

    def __init__(self, settings: ServingSettings, cursor: bytes) -> None:
        self.settings, self.cursor = settings, cursor
        self.entries: deque[tuple[bytes, bytes]] = deque()
        self.stopped = threading.Event()
        self.link = Link("events of other machines count once it is back")

    def read(self, client: "redis.Redis", block_ms: int | None) -> int:
        """Take the next entries; returns how many."""
        # [[stream, [(number, fields), …]]]; the library's own type allows more.
        reply: Any = client.xread({self.settings.redis_stream: self.cursor}, count=BATCH, block=block_ms)
        entries = [entry for _, stream in reply for entry in stream]
        for number, fields in entries:
            self.cursor = number
            self.entries.append((number, fields.get(FIELD, b"")))
        return len(entries)

    def follow(self) -> None:
        """Take entries as they come, until `stopped`."""
        client = connect(self.settings)
        while not self.stopped.is_set():
            try:
                self.read(client, BLOCK_MS)
                self.link.up()
            except Exception as error:  # whatever it is: the thread must outlast it
                self.link.down(error)
                self.stopped.wait(PAUSE_S)
        client.close()


class StreamReader:
    """Reads all events of a publication's time once; a process that was forked goes on where its parent was.

    Args:
        settings: `serving.redis` and its stream.
        day: of the publication: what happened up to it is in its state.
        zone: time zone of the days.
    """

    def __init__(self, settings: ServingSettings, day: date, zone: str) -> None:
        self._settings = settings
        # Numbers of entries begin with Redis' milliseconds since 1970. An event may be ahead of the clock.
        since = day_start(day + timedelta(days=1), zone) - MAX_AHEAD
        self._cursor = f"{int(since.timestamp() * 1000)}-0".encode()
        self._feed, self._pid = _Feed(settings, self._cursor), 0
        self._read_backlog()

    @property
    def is_up(self) -> bool:
        """Whether Redis has answered last."""
        return self._feed.link.is_up

    def poll(self) -> list[bytes]:
        """The events since the last call, as lines of the journal; it never waits."""
        lines = []
        while self._feed.entries:
            self._cursor, line = self._feed.entries.popleft()
            lines.append(line)
        # A thread does not outlast a fork.
        if self._pid != os.getpid():
            self._start_thread()
        return lines

    def _read_backlog(self) -> None:
        client, deadline = connect(self._settings), time.monotonic() + BACKLOG_S
        try:
            while self._feed.read(client, None) and time.monotonic() < deadline:
                pass
        except redis.RedisError as error:
            self._feed.link.down(error)
        finally:
            client.close()

    def _start_thread(self) -> None:
        is_up = self._feed.link.is_up
        self._feed, self._pid = _Feed(self._settings, self._cursor), os.getpid()
        self._feed.link.is_up = is_up
        threading.Thread(target=self._feed.follow, name="redis-reader", daemon=True).start()
        # With the publication that it reads for.
        weakref.finalize(self, self._feed.stopped.set)
