"""What the server takes and refuses: requests, events, the journal, turns and budgets. No server is started."""

import asyncio
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from conf import UserError, load
from recsys.serve.budget import Budget, Costs
from recsys.serve.events.committer import Committer
from recsys.serve.events.event import Event, fault
from recsys.serve.events.journal import Reader, Writer, begin_segment, open_folder, segment_path, segments
from recsys.serve.http.app import _explain, _parse, _parse_events
from recsys.serve.http.limits import HttpError, Turnstile
from recsys.serve.http.openapi import document
from recsys.serve.lineup import assign
from recsys.serve.requests import Context, RankRequest, RecommendRequest, RequestError, moment_of
from recsys.serve.settings import ArmSettings, ServingSettings, check_exposure

NOW = datetime(2026, 1, 8, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ('{"user": 7}', "user: "),
        ('{"user": ""}', "user: "),
        ('{"user": "u", "n": 0}', "n: "),
        ('{"user": "u", "n": 2.5}', "n: "),
        ('{"user": "u", "n": 1e9}', "n: "),
        ('{"user": "u", "N": 3}', "`N`"),
        ("{}", "`user`"),
        ('{"user": "u", "context": {"device": 1}}', "context.device: "),
        ('{"user": "u", "filter": {"categories": []}}', "filter.categories: "),
        ('{"user": "u", "exclude": ["a", null]}', "exclude[1]: "),
        ("[]", "Expected `object`"),
        ("", "truncated"),
        ('{"user": "u"', "truncated"),
        ('{"user": "\\ud800"}', "truncated"),
        ("[" * 100_000, ""),
    ],
)
def test_a_wrong_request_is_one_line_that_names_the_field(body: str, field: str) -> None:
    with pytest.raises(HttpError) as refusal:
        _parse(body.encode(), msgspec.json.Decoder(RecommendRequest))
    assert refusal.value.status == 400
    assert field in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_too_many_items_are_refused() -> None:
    body = msgspec.json.encode({"user": "u", "items": [f"i{n}" for n in range(501)]})
    with pytest.raises(HttpError, match=r"items: Expected `array` of length <= 500"):
        _parse(body, msgspec.json.Decoder(RankRequest))


@pytest.mark.parametrize(
    "at", ["yesterday", "2026-01-07", "2026-01-07T10:00:00", "2026-02-30T10:00:00Z", "9999-12-31T23:59:59Z"]
)
def test_a_wrong_moment_is_refused(at: str) -> None:
    with pytest.raises(RequestError, match=r"^context\.at: "):
        moment_of(Context(at=at), NOW)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"type": "impression"}, "position: "),
        ({"ts": "2026-01-08T10:00:00"}, "ts: write it"),
        ({"ts": "2026-01-32T10:00:00Z"}, "ts: "),
        ({"ts": "2026-01-08T14:00:00Z"}, "ts: it is in the future"),
        ({"ts": "2025-11-08T14:00:00Z"}, "ts: it is more than 30 days ago"),
        ({"user_id": " u"}, "user_id: "),
        ({"impression_id": "a\nb"}, "impression_id: "),
        ({"ts": "2026-01-08T12:59:00+00:00"}, None),
        ({"type": "impression", "position": 3, "features": {"user_rate": 0.5}}, None),
    ],
)
def test_an_event_is_refused_for_what_the_load_would_refuse(fields: dict[str, Any], problem: str | None) -> None:
    about = {"event_id": "e", "type": "click", "user_id": "u", "item_id": "i", "ts": "2026-01-08T11:00:00Z"} | fields
    told = fault(msgspec.convert(about, Event), NOW, 30)
    assert told is None if problem is None else str(told).startswith(problem)


def test_events_come_alone_or_many() -> None:
    one = {"event_id": "e", "type": "click", "user_id": "u", "item_id": "i"}
    assert len(_parse_events(msgspec.json.encode(one), 2)) == 1
    assert len(_parse_events(msgspec.json.encode([one, one]), 2)) == 2
    for body in (b"[]", msgspec.json.encode([one] * 3)):
        with pytest.raises(HttpError, match="events: from 1 to 2"):
            _parse_events(body, 2)
    with pytest.raises(HttpError, match=r"\[0\]\.type: Invalid enum value 'view'"):
        _parse_events(msgspec.json.encode([one | {"type": "view"}]), 2)


def test_a_message_without_a_place_stays_as_it_is() -> None:
    assert _explain(ValueError("two\n lines")) == "two lines"


def test_every_reader_gets_every_line_once_across_segments(tmp_path: Path) -> None:
    open_folder(tmp_path)
    writers, reader = [Writer(tmp_path), Writer(tmp_path)], Reader(tmp_path, 1)
    late = Reader(tmp_path, 1)
    lines = []
    for n in range(9):
        writers[n % 2].append(b"line %d\n" % n)
        if n in (3, 5):
            begin_segment(tmp_path, segments(tmp_path)[-1] + 1)
        lines += reader.poll()
    assert lines == late.poll() == [b"line %d" % n for n in range(9)]
    assert reader.poll() == []
    # Landed segments have another name, which who is behind still finds.
    for number in (1, 2):
        segment_path(tmp_path, number).rename(segment_path(tmp_path, number).with_suffix(".landed"))
    writers[0].append(b"last\n")
    assert reader.poll() == [b"last"]
    assert segments(tmp_path) == [3]


def test_what_a_killed_writer_left_swallows_no_other_line(tmp_path: Path) -> None:
    open_folder(tmp_path)
    with segment_path(tmp_path, 1).open("ab") as torn:
        torn.write(b'{"event_id": "half')
    reader = Reader(tmp_path, 1)
    assert reader.poll() == []
    Writer(tmp_path).append(b"whole\n")
    assert reader.poll() == [b'{"event_id": "half', b"whole"]


class SlowWriter(Writer):
    """Counts its calls, each of which takes a while."""

    calls = 0

    def append(self, lines: bytes) -> None:
        self.calls += 1
        time.sleep(0.05)
        super().append(lines)


def test_events_of_many_requests_share_a_write_and_each_is_written_once(tmp_path: Path) -> None:
    open_folder(tmp_path)
    writer = SlowWriter(tmp_path)

    async def send() -> list[int]:
        committer = Committer(writer)
        events = [Event(f"e{n % 20}", "click", "u", "i") for n in range(40)]
        return list(await asyncio.gather(*(committer.commit([one]) for one in events)))

    counts = asyncio.run(send())
    assert sum(counts) == 20
    assert writer.calls == 1
    ids = [msgspec.json.decode(line)["event_id"] for line in Reader(tmp_path, 1).poll()]
    assert sorted(ids) == sorted(f"e{n}" for n in range(20))


def test_a_failed_write_is_told_to_every_sender_and_the_next_one_succeeds(tmp_path: Path) -> None:
    open_folder(tmp_path)

    class Failing(Writer):
        is_full = True

        def append(self, lines: bytes) -> None:
            if self.is_full:
                raise OSError("No space left on device")
            super().append(lines)

    async def send() -> None:
        writer = Failing(tmp_path)
        committer, one = Committer(writer), Event("e", "click", "u", "i")
        with pytest.raises(OSError, match="No space"):
            await committer.commit([one])
        writer.is_full = False
        assert await committer.commit([one]) == 1

    asyncio.run(send())
    assert len(Reader(tmp_path, 1).poll()) == 1


def test_turns_are_in_order_one_at_a_time_and_too_many_are_refused() -> None:
    async def ask(turnstile: Turnstile, number: int, log: list[str]) -> None:
        await turnstile.enter()
        log.append(f"in {number}")
        turnstile.leave()

    async def run() -> tuple[list[str], list[Any]]:
        turnstile, log = Turnstile(max_waiting=2, budget_ms=50), []  # type: ignore[var-annotated]
        results = await asyncio.gather(*(ask(turnstile, n, log) for n in range(6)), return_exceptions=True)
        await asyncio.sleep(0)
        await ask(turnstile, 6, log)  # free again
        return log, list(results)

    log, results = asyncio.run(run())
    assert log == ["in 0", "in 1", "in 2", "in 6"]
    refused = [one for one in results if one is not None]
    assert [one.status for one in refused] == [429] * 3
    assert refused[0].headers == {"Retry-After": "1"}


def test_who_hangs_up_does_not_keep_the_turn() -> None:
    async def run() -> None:
        turnstile = Turnstile(max_waiting=5, budget_ms=50)
        await turnstile.enter()
        waiting = [asyncio.create_task(turnstile.enter()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        turnstile.leave()
        await asyncio.wait_for(waiting[1], 5)
        turnstile.leave()
        await asyncio.wait_for(waiting[2], 5)

    asyncio.run(run())


def test_a_budget_allows_what_is_expected_to_end_in_time() -> None:
    costs = Costs()
    costs.record("fine", 100, 4.0)
    assert costs.expect("fine", 100) == pytest.approx(4.0)
    assert 1.0 < costs.expect("fine", 10) < 2.0
    budget = Budget(1000, costs, time.perf_counter())
    assert budget.allows("fine", "unknown", rows=100)
    assert not budget.allows("fine", rows=100_000)
    assert not Budget(3, costs, time.perf_counter()).allows("fine", rows=100)
    assert budget.run("step", 10, lambda: 7) == 7
    assert set(budget.steps) == {"step"}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.3.2.1"])
def test_loopback_needs_no_token(host: str) -> None:
    check_exposure(ServingSettings(host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com"])
def test_others_get_in_by_a_token_alone(host: str) -> None:
    with pytest.raises(UserError, match="lets others in"):
        check_exposure(ServingSettings(host=host))
    with pytest.raises(UserError, match="shorter than 16"):
        check_exposure(ServingSettings(host=host, token="secret"))  # type: ignore[arg-type]
    check_exposure(ServingSettings(host=host, token="0123456789abcdef"))  # type: ignore[arg-type]


def test_the_token_is_masked_in_the_settings() -> None:
    config = load(environment={"MILLRACE__SERVING__TOKEN": "0123456789abcdef"})
    assert "0123456789abcdef" not in str(config.resolved()["serving"])


def test_the_api_is_described_with_every_field() -> None:
    api = document(ServingSettings())
    assert set(api["paths"]) >= {"/v1/recommend", "/v1/rank", "/v1/similar", "/v1/events", "/health/ready", "/metrics"}
    schemas = api["components"]["schemas"]
    assert set(schemas["RecommendRequest"]["properties"]) == {"user", "n", "scene", "context", "exclude", "filter"}
    assert schemas["RankRequest"]["properties"]["items"]["maxItems"] == 500
    assert schemas["Event"]["additionalProperties"] is False


def test_users_stay_in_their_arm_and_arms_have_their_shares() -> None:
    arms = {"a": ArmSettings(weight=3.0), "b": ArmSettings(order="merged")}
    users = [f"u{n}" for n in range(4000)]
    assigned = [assign("first", arms, user) for user in users]
    assert assigned == [assign("first", arms, user) for user in users]
    assert assigned.count("b") / 4000 == pytest.approx(0.25, abs=0.03)
    # Another experiment splits each arm again.
    both = [
        one == other == "b"
        for one, other in zip(assigned, (assign("second", arms, user) for user in users), strict=True)
    ]
    assert sum(both) / 4000 == pytest.approx(0.0625, abs=0.02)


def test_an_old_event_is_one_of_more_days_than_may_be_late() -> None:
    old = (NOW - timedelta(days=31)).isoformat()
    assert "events.late_days" in str(fault(Event("e", "click", "u", "i", ts=old), NOW, 30))
    assert os.linesep not in str(fault(Event("e", "click", "u", "i", ts=old), NOW, 30))
