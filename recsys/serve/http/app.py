"""The ASGI application: routes, checks, and answers as JSON. `millrace serve` runs it in uvicorn, or in Ray Serve."""

import asyncio
import logging
import re
import secrets
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from etl.events.settings import EventSettings
from features.catalog import OWN_COLUMNS
from recsys.serve import engine
from recsys.serve.budget import Budget
from recsys.serve.engine import Answer
from recsys.serve.events.event import Event, fault
from recsys.serve.http.limits import HttpError, Turnstile, check_token, read_body
from recsys.serve.http.metrics import Metrics
from recsys.serve.http.openapi import PAGE, document
from recsys.serve.lineup import Choice
from recsys.serve.requests import (
    RankRequest,
    RecommendRequest,
    RequestError,
    SimilarRequest,
    check_columns,
    moment_of,
)
from recsys.serve.service import Service, watch
from recsys.serve.snapshot import Snapshot

CONTEXT_COLUMNS = frozenset(column.source for column in OWN_COLUMNS.of_owner("context"))
log = logging.getLogger(__name__)

T = TypeVar("T")
Handler = Callable[[Request, bytes, float], Awaitable[Response]]

CATCH_UP_S = 0.1  # without requests, for the journal's readers not to fall behind
_PLACE = re.compile(r"(.*?) - at `\$\.?(.*)`$", re.DOTALL)


class JsonResponse(Response):
    """orjson's bytes."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


class Application:
    """The handlers of one worker."""

    def __init__(self, service: Service, metrics: Metrics | None = None) -> None:
        self.service, self.settings = service, service.settings
        self.metrics = metrics or Metrics()
        self._turnstile = Turnstile(self.settings.max_waiting, self.settings.budget_ms)
        token = self.settings.token
        self._token = token.get_secret_value().encode() if token else None
        self._late_days = service.config.get(EventSettings).late_days
        self._taken_up: list[bool] = []

    def asgi(self) -> Starlette:
        """The application."""
        routes = [
            Route("/v1/recommend", self._post(self._recommend), methods=["POST"]),
            Route("/v1/rank", self._post(self._rank), methods=["POST"]),
            Route("/v1/similar", self._post(self._similar), methods=["POST"]),
            Route("/v1/events", self._post(self._events), methods=["POST"]),
            Route("/v1/models", self._models, methods=["GET"]),
            Route("/health/live", self._live, methods=["GET"]),
            Route("/health/ready", self._ready, methods=["GET"]),
            Route("/metrics", self._metrics, methods=["GET"]),
            Route("/openapi.json", self._openapi, methods=["GET"]),
            Route("/docs", self._docs, methods=["GET"]),
        ]
        # All three: else Starlette answers some refusals as plain text, and clients read JSON.
        handlers = {HTTPException: _http_exception, HttpError: _http_error, 500: _internal_error}
        return Starlette(routes=routes, exception_handlers=handlers, lifespan=self._lifespan)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self.service.start()
        stopped = threading.Event()
        # In a thread: loading a publication takes seconds, and requests are answered meanwhile.
        watcher = threading.Thread(target=watch, args=(self.service, stopped, self._taken_up), daemon=True)
        watcher.start()
        task = asyncio.get_running_loop().create_task(self._keep_up())
        try:
            yield
        finally:
            stopped.set()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            self.service.stop()

    async def _keep_up(self) -> None:
        while True:  # from the first moment on: whoever looks at once sees the age of the models, and not 0
            self.service.lineup.catch_up()
            while self._taken_up:
                self.metrics.swaps.labels("taken_up" if self._taken_up.pop() else "failed").inc()
            recent, snapshot = self.service.snapshot.state.recent, self.service.snapshot
            self.metrics.recent.set(recent.num_events)
            self.metrics.model_age.set(self.service.model_age_s())
            self.metrics.missing.set(len(snapshot.stack.missing))
            if (is_up := self.service.is_redis_up()) is not None:
                self.metrics.redis_up.set(is_up)
            if recent.newest_at:
                self.metrics.event_age.set(time.time() - recent.newest_at)
            if self.service.committer is not None:
                self.metrics.waiting.set(self.service.committer.num_waiting)
            await asyncio.sleep(CATCH_UP_S)

    def _post(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """A handler behind the checks, with its metrics."""

        async def handle(request: Request) -> Response:
            # 500 until something else is known: what nobody foresaw is counted, too.
            arrived, path, status = time.perf_counter(), request.url.path, 500
            try:
                check_token(request, self._token)
                # After the token: a stranger's body is not even read.
                body = await read_body(request, self.settings.max_body_bytes, self.settings.read_s)
                response = await handler(request, body, arrived)
                status = response.status_code
                return response
            except HttpError as error:
                status = error.status
                self.metrics.refused.labels(error.reason).inc()
                raise
            finally:
                self.metrics.requests.labels(path, str(status)).inc()
                self.metrics.latency.labels(path).observe(time.perf_counter() - arrived)

        return handle

    async def _recommend(self, request: Request, body: bytes, arrived: float) -> Response:
        query = _parse(body, _RECOMMEND)
        at = _moment(query)

        def answer(snapshot: Snapshot, budget: Budget) -> Answer:
            exploration, length = self.settings.exploration, self.settings.recommend_length
            return engine.recommend(snapshot, query, at, budget, length=length, exploration=exploration)

        about = {"ts": at.isoformat(), "scene": query.scene, "device": query.context.device}
        return await self._answer(request, query.user, answer, arrived, about)

    async def _rank(self, request: Request, body: bytes, arrived: float) -> Response:
        query = _parse(body, _RANK)
        at = _moment(query)
        about = {"ts": at.isoformat(), "device": query.context.device}

        def answer(snapshot: Snapshot, budget: Budget) -> Answer:
            unknown = int((snapshot.state.items.find(query.items) < 0).sum())
            if unknown:
                self.metrics.unknown_items.inc(unknown)
            return engine.rank(snapshot, query, at, budget)

        return await self._answer(request, query.user, answer, arrived, about)

    async def _similar(self, request: Request, body: bytes, arrived: float) -> Response:
        query = _parse(body, _SIMILAR)
        return await self._answer(request, "", lambda snapshot, _: engine.similar(snapshot, query), arrived, None)

    async def _answer(
        self,
        request: Request,
        user: str,
        compute: Callable[[Snapshot, Budget], Answer],
        arrived: float,
        about: dict[str, Any] | None,
    ) -> Response:
        """Wait for the turn, compute, and write the answer; `about` goes into the served log."""
        await self._turnstile.enter()
        try:
            choice = self.service.lineup.choose(user)
            # Just before the answer: an event that any worker has accepted counts in the next request.
            choice.live.catch_up()
            budget = Budget(self.settings.budget_ms, self.service.costs, arrived)
            answer = compute(choice.snapshot, budget)
            response = self._write(answer, choice, arrived)
            if about is not None and self.service.served_log is not None:
                served_by = {"model": choice.snapshot.model, "rung": answer.rung, **self._experiment(choice)}
                kind = request.url.path.rpartition("/")[2]
                self.service.served_log.add(answer, {"kind": kind, **served_by, "user_id": user, **about})
        finally:
            self._turnstile.leave()
        # After the turn: the next request need not wait for metrics.
        for step, milliseconds in budget.steps.items():
            self.metrics.steps.labels(step).observe(milliseconds / 1000)
        self.metrics.rungs.labels(request.url.path, answer.rung).inc()
        if answer.reason is not None:
            self.metrics.degraded.labels(answer.reason).inc()
        return response

    def _experiment(self, choice: Choice) -> dict[str, dict[str, str]]:
        experiment = self.settings.experiment
        return {"experiment": {"name": experiment, "arm": choice.arm}} if experiment and choice.arm else {}

    def _write(self, answer: Answer, choice: Choice, arrived: float) -> Response:
        items = [
            {
                "item": entry.item,
                "impression_id": f"{answer.request_id}-{position}",
                "position": position,
                "score": entry.score,
                "channels": entry.channels,
                **({"explanation": entry.explanation} if entry.explanation else {}),
            }
            for position, entry in enumerate(answer.entries, 1)
        ]
        degraded = {"degraded": answer.degraded, "reason": answer.reason} if answer.degraded else {}
        took = round((time.perf_counter() - arrived) * 1000, 3)
        about = {"request_id": answer.request_id, "model": choice.snapshot.model, **self._experiment(choice)}
        return JsonResponse({**about, **degraded, "items": items, "took_ms": took})

    async def _events(self, request: Request, body: bytes, arrived: float) -> Response:
        now = datetime.now(UTC)
        events = [_with_moment(event, now) for event in _parse_events(body, self.settings.max_events)]
        for number, event in enumerate(events):
            if problem := fault(event, now, self._late_days):
                raise HttpError(400, f"[{number}].{problem}" if len(events) > 1 else problem, "invalid")
        await self._turnstile.enter()
        try:
            self.service.lineup.catch_up()
            recent = self.service.snapshot.state.recent
            # Reversed, so that of two events with one id in a body the first one stays.
            new = {event.event_id: event for event in reversed(events) if not recent.has(event.event_id)}
        finally:
            self._turnstile.leave()
        assert self.service.committer is not None
        try:
            # In the body's order again.
            accepted = await self.service.committer.commit(list(new.values())[::-1])
        except OSError as error:
            log.error("events can't be written: %s", error)
            raise HttpError(503, "events can't be written now: send them again", "disk", {"Retry-After": "5"}) from None
        self.service.lineup.catch_up()
        for event in new.values():
            self.metrics.events.labels(event.type).inc()
        self.metrics.repeated.inc(len(events) - accepted)
        return JsonResponse({"accepted": accepted, "repeated": len(events) - accepted})

    async def _models(self, request: Request) -> Response:
        check_token(request, self._token)
        lineup, costs = self.service.lineup, self.service.costs.mean_ms
        lineup.catch_up()  # events that another worker accepted count here as well
        about: dict[str, Any] = {"current": lineup.main.snapshot.describe(), "costs_ms": costs}
        if lineup.arms:
            arms = {
                name: arm.snapshot.describe() | {"order": arm.snapshot.stack.order} for name, arm in lineup.arms.items()
            }
            about["experiment"] = {"name": self.settings.experiment, "arms": arms}
        return JsonResponse(about)

    async def _live(self, _: Request) -> Response:
        return JsonResponse({"status": "live"})

    async def _ready(self, _: Request) -> Response:
        # A worker listens once its snapshot has answered requests.
        return JsonResponse({"status": "ready", "model": self.service.snapshot.model})

    async def _metrics(self, request: Request) -> Response:
        check_token(request, self._token)
        return PlainTextResponse(self.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _openapi(self, _: Request) -> Response:
        return JsonResponse(document(self.settings))

    async def _docs(self, _: Request) -> Response:
        return HTMLResponse(PAGE)


_RECOMMEND = msgspec.json.Decoder(RecommendRequest)
_RANK = msgspec.json.Decoder(RankRequest)
_SIMILAR = msgspec.json.Decoder(SimilarRequest)
_EVENT = msgspec.json.Decoder(Event)
_EVENTS = msgspec.json.Decoder(list[Event])


def _parse(body: bytes, decoder: "msgspec.json.Decoder[T]") -> T:
    """A body as the decoder's type. Raises HttpError 400 with one line that names the field."""
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise HttpError(400, _explain(error), "invalid") from None


def _explain(error: Exception) -> str:
    """msgspec's message as `field: what is wrong`."""
    text = " ".join(str(error).split())[:300]
    match = _PLACE.match(text)
    return f"{match[2]}: {match[1]}" if match and match[2] else text


def _parse_events(body: bytes, most: int) -> list[Event]:
    """One event, a list of them, or an object with the list `events`."""
    start = body.lstrip()[:1]
    events = _parse(body, _EVENTS) if start == b"[" else [_parse(body, _EVENT)]
    if not 0 < len(events) <= most:
        raise HttpError(400, f"events: from 1 to {most} of them (serving.max_events)", "invalid")
    return events


def _with_moment(event: Event, now: datetime) -> Event:
    if event.ts is not None:
        return event
    return msgspec.structs.replace(event, ts=now.isoformat(timespec="milliseconds").replace("+00:00", "Z"))


def _moment(query: RecommendRequest | RankRequest) -> datetime:
    try:
        check_columns(query.context, CONTEXT_COLUMNS)
        return moment_of(query.context, datetime.now(UTC))
    except RequestError as error:
        raise HttpError(400, str(error), "invalid") from None


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HttpError)
    return JsonResponse({"error": str(error), "reason": error.reason}, error.status, error.headers)


async def _http_exception(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JsonResponse({"error": error.detail, "reason": "http"}, error.status_code, error.headers)


async def _internal_error(_: Request, error: Exception) -> Response:
    # The stack goes to the log under a number, and never to the client.
    number = secrets.token_hex(6)
    log.error("internal error %s", number, exc_info=error)
    return JsonResponse({"error": f"internal error {number}: see the server's log", "reason": "internal"}, 500)
