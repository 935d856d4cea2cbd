"""uvicorn's HTTP protocol with limits on connections: how many there are, and how long a request's head may take."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class GuardedProtocol(HttpToolsProtocol):
    """Cuts off clients that send their headers too slowly: each would keep a connection for ever."""

    read_s = 5.0
    max_connections = 2000

    _timer: asyncio.TimerHandle | None = None

    @classmethod
    def limited(cls, read_s: float, max_connections: int) -> "type[GuardedProtocol]":
        """The protocol with limits of its own."""
        return type(cls.__name__, (cls,), {"read_s": read_s, "max_connections": max_connections})

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or close it when there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            transport.close()
        else:
            self._arm()

    def data_received(self, data: bytes) -> None:
        """Read a part of a request; the first one starts the clock of its head."""
        if self._timer is None and (self.cycle is None or self.cycle.response_complete):
            self._arm()
        super().data_received(data)

    def on_headers_complete(self) -> None:
        """The head is there: the application limits the time of the body."""
        self._disarm()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._disarm()
        super().connection_lost(exc)

    def _arm(self) -> None:
        self._timer = self.loop.call_later(self.read_s, self._cut_off)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _cut_off(self) -> None:
        self._timer = None
        transport: Any = self.transport
        if transport is not None and not transport.is_closing():
            transport.close()
