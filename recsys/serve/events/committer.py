"""Group commit: events of many requests go to the disk in one write, and each request waits for its own."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from recsys.serve.events.event import Event
from recsys.serve.events.journal import Writer


class Committer:
    """Collects events while a write is under way, and writes them together afterwards.

    Args:
        writer: of the journal.
        publish: is told the lines that are on disk.
    """

    def __init__(self, writer: Writer, publish: Callable[[Iterable[bytes]], None] | None = None) -> None:
        self._writer, self._publish = writer, publish
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._pending: dict[str, bytes] = {}
        self._done: asyncio.Future[None] | None = None  # of what is pending
        self._writing: dict[str, asyncio.Future[None]] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def num_waiting(self) -> int:
        """Events that are not yet on disk."""
        return len(self._pending) + len(self._writing)

    async def commit(self, events: Sequence[Event]) -> int:
        """Wait until all events are on disk; returns how many were not on their way already.

        Raises:
            OSError: they could not be written.
        """
        loop = asyncio.get_running_loop()
        waits, num_new = set(), 0
        for event in events:
            if event.event_id in self._writing:
                waits.add(self._writing[event.event_id])
                continue
            num_new += event.event_id not in self._pending
            self._pending.setdefault(event.event_id, msgspec.json.encode(event) + b"\n")
            if self._done is None:
                self._done = loop.create_future()
            waits.add(self._done)
        if self._pending and (self._task is None or self._task.done()):
            self._task = loop.create_task(self._write_pending())
        for wait in waits:
            await asyncio.shield(wait)  # a client that hangs up takes no other's commit with it
        return num_new

    async def _write_pending(self) -> None:
        loop = asyncio.get_running_loop()
        while self._pending:
            batch, done = self._pending, self._done
            assert done is not None
            self._pending, self._done = {}, None
            self._writing = dict.fromkeys(batch, done)
            try:
                await loop.run_in_executor(self._thread, self._writer.append, b"".join(batch.values()))
            except OSError as error:
                done.set_exception(error)
                done.exception()  # looked at, though every client may have hung up
            else:
                done.set_result(None)
                if self._publish is not None:
                    self._publish(batch.values())
            self._writing = {}
