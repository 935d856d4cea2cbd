"""`millrace serve` on several machines, each with a home of its own: one Redis lets them know each other's events."""

from collections.abc import Iterator

import pytest
from engines.redis_server import RedisServer
from engines.serving import Server, copied, serving, wait_until
from support import FinishedDay

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def machines(
    finished_day: FinishedDay, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, Server]]:
    homes = [copied(finished_day, tmp_path_factory.mktemp("machine") / "home") for _ in range(2)]
    settings = ("serving.budget_ms=10000", "serving.max_waiting=100")
    environment = {"MILLRACE__SERVING__REDIS": redis_server.url}
    with (
        serving(homes[0], *settings, workers=2, **environment) as first,
        serving(homes[1], *settings, **environment) as second,
    ):
        yield first, second


def click(number: int, user: str, item: str) -> dict[str, str]:
    return {"event_id": f"click-{number}", "type": "click", "user_id": user, "item_id": item}


def redis_up(server: Server) -> float:
    lines = dict(line.rsplit(" ", 1) for line in server.ask("/metrics")[1].splitlines() if not line.startswith("#"))
    return float(lines["millrace_redis_up"])


def test_a_click_on_one_machine_changes_the_lists_of_all(machines: tuple[Server, Server]) -> None:
    first, second = machines
    chosen = second.items("u7")[0]
    assert first.ask("/v1/events", click(1, "u7", chosen))[1] == {"accepted": 1, "repeated": 0}
    wait_until(lambda: chosen not in second.items("u7"), 20)
    # An event that is sent again counts once, whichever machine gets it.
    assert second.ask("/v1/events", click(1, "u7", chosen))[1] == {"accepted": 0, "repeated": 1}
    for server in machines:
        assert server.ask("/v1/models")[1]["current"]["recent_events"] == 1
        assert redis_up(server) == 1


def test_machines_answer_without_redis_and_catch_up_after_it(
    machines: tuple[Server, Server], redis_server: RedisServer
) -> None:
    first, second = machines
    chosen = first.items("u8")[0]
    redis_server.stop()
    wait_until(lambda: redis_up(first) == redis_up(second) == 0, 20)
    assert second.ask("/v1/events", click(2, "u8", chosen))[1] == {"accepted": 1, "repeated": 0}
    assert chosen not in second.items("u8")
    assert chosen in first.items("u8")
    redis_server.start()
    wait_until(lambda: chosen not in first.items("u8"), 20)
    wait_until(lambda: redis_up(first) == redis_up(second) == 1, 20)
