"""Limits before work: whose turn it is, how large a body may be, and who may ask."""

import asyncio
import hmac
import time
from collections import deque

from starlette.requests import ClientDisconnect, Request

SMOOTHING = 0.05
CLOSE = {"Connection": "close"}  # the rest of the body would be read as the next request


class HttpError(Exception):
    """An answer with an error: status, one line, and the field that it is about."""

    def __init__(self, status: int, message: str, reason: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.reason, self.headers = status, reason, headers


class Turnstile:
    """Lets one request compute at a time, in the order of arrival, and refuses what would wait too long.

    A turn begins in a round of the event loop of its own: between two turns the loop accepts what has arrived, so that
    who is too many is refused at once, and not after everybody before.

    Args:
        max_waiting: most requests that wait.
        budget_ms: of a request; half of it at most is for waiting, as far as it can be told.
    """

    def __init__(self, max_waiting: int, budget_ms: float) -> None:
        self._max_waiting, self._max_wait_ms = max_waiting, budget_ms / 2
        self._queue: deque[asyncio.Future[None]] = deque()
        self._is_busy = False
        self._mean_ms = 0.0  # from one turn's beginning to the next one's, while somebody waits
        self._began = 0.0

    async def enter(self) -> None:
        """Wait for the turn.

        Raises:
            HttpError: too many are waiting.
        """
        waiting = len(self._queue)
        # Refused at once: a client that is told so can go elsewhere, one that waits for nothing can't.
        if waiting > self._max_waiting or waiting * self._mean_ms > self._max_wait_ms:
            raise HttpError(429, "too many requests: try again in a second", "overload", {"Retry-After": "1"})
        loop = asyncio.get_running_loop()
        # A future and no lock: who waits longest is first, and the queue's length is known.
        turn = loop.create_future()
        self._queue.append(turn)
        if not self._is_busy:
            self._is_busy = True
            loop.call_soon(self._grant)
        try:
            await turn
        except asyncio.CancelledError:
            # The client has gone, or the server stops.
            # It had the turn already, which the next one gets.
            if turn.done() and not turn.cancelled():
                loop.call_soon(self._grant)
            raise

    def leave(self) -> None:
        """End the turn."""
        asyncio.get_running_loop().call_soon(self._grant)

    def _grant(self) -> None:
        now = time.perf_counter()
        if self._began:  # what is refused in between takes its time as well
            self._mean_ms += SMOOTHING * ((now - self._began) * 1000 - self._mean_ms)
        self._began = now if self._queue else 0.0
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():  # else its client has gone meanwhile
                turn.set_result(None)
                return
        self._is_busy = False


def check_token(request: Request, token: bytes | None) -> None:
    """Raises HttpError for a request without the server's token, compared in constant time."""
    if token is None:
        return
    given = request.headers.get("authorization", "").encode("latin-1", "replace")
    if not hmac.compare_digest(given, b"Bearer " + token):
        raise HttpError(401, "send the server's token as `Authorization: Bearer TOKEN`", "no_token")


async def read_body(request: Request, max_bytes: int, seconds: float) -> bytes:
    """The body of a request.

    Raises:
        HttpError: it is too large, or did not come in time.
    """
    too_large = HttpError(413, f"the body has more than {max_bytes} bytes (serving.max_body_bytes)", "too_large", CLOSE)
    # By the header before anything is read; a body without one is cut off below.
    length = request.headers.get("content-length", "0")
    if length.isdigit() and int(length) > max_bytes:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                body += part
                if len(body) > max_bytes:
                    raise too_large
    except TimeoutError:
        raise HttpError(408, f"the body did not come within {seconds:g} s", "slow", CLOSE) from None
    except ClientDisconnect:
        raise HttpError(400, "the client hung up", "gone") from None
    return bytes(body)
