"""`millrace serve` as its clients meet it: the real server on a finished day, killed, overloaded, and promoted under."""

import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from engines.serving import Server, copied, serving, wait_until
from served_features import compare_with_candidates
from support import ROOT, FinishedDay

from conf import Config, load
from conf.clock import day_start
from features.catalog import DENSE, SPARSE
from recsys.dataset import HOT_ITEMS
from recsys.serve import engine
from recsys.serve.budget import Budget, Costs
from recsys.serve.events.landing import landed_events
from recsys.serve.rankers import load_stack
from recsys.serve.requests import RankRequest, RecommendRequest, SimilarRequest
from recsys.serve.snapshot import Snapshot, load_snapshot, published

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

TOKEN = "0123456789abcdef"
BUDGET = "serving.budget_ms=10000"  # others use the machine, too


@pytest.fixture(scope="module")
def home(finished_day: FinishedDay, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied(finished_day, tmp_path_factory.mktemp("serving") / "home")


@pytest.fixture(scope="module")
def snapshot(home: Path) -> Snapshot:
    config = config_of(home)
    return load_snapshot(config, published(config))


def config_of(home: Path) -> Config:
    return load(overrides=[f"paths.home={home}"], environment={})


@pytest.fixture(scope="module")
def server(home: Path, snapshot: Snapshot) -> Iterator[Server]:
    """Two workers with time enough on a machine that others use; `snapshot` has built the state."""
    settings = (BUDGET, "serving.max_waiting=3", "serving.read_s=2", "serving.roll_s=1")
    with serving(home, *settings, workers=2) as running:
        yield running


# --- what answers: in this process ---


def unlimited() -> Budget:
    return Budget(60_000, Costs(), time.perf_counter())


def end_of_day(snapshot: Snapshot) -> datetime:
    return day_start(snapshot.publication.day + timedelta(days=1), snapshot.state.zone)


def test_features_are_those_that_spark_computed_for_the_same_candidates(snapshot: Snapshot) -> None:
    """Every candidate of the day, thousands of rows: ids are equal, numbers to a millionth, histories in order."""
    assert compare_with_candidates(snapshot) > 5000


def test_lists_are_the_published_ones_while_nothing_has_happened(snapshot: Snapshot) -> None:
    published_lists = pq.read_table(snapshot.publication.lists / "recommendations.parquet").to_pandas()
    at, users = end_of_day(snapshot), 0
    for user, rows in published_lists.sort_values(["user_id", "rank"]).groupby("user_id"):
        answer = engine.recommend(snapshot, RecommendRequest(user), at, unlimited(), length=20, exploration=0)
        assert [entry.item for entry in answer.entries] == rows["item_id"].tolist()
        assert [entry.score for entry in answer.entries] == pytest.approx(rows["score"].tolist(), rel=1e-4)
        assert (answer.rung, answer.degraded) == ("deep", None)
        users += 1
    assert users == 300


def test_an_unknown_user_gets_the_published_list_for_unknown_users(snapshot: Snapshot) -> None:
    answer = engine.recommend(
        snapshot, RecommendRequest("nobody"), end_of_day(snapshot), unlimited(), length=20, exploration=0
    )
    expected = pq.read_table(snapshot.publication.lists / "unknown_user.parquet")
    assert [entry.item for entry in answer.entries] == expected["item_id"].to_pylist()
    assert [entry.channels[0] for entry in answer.entries] == expected["channels"].to_pylist()
    assert (answer.degraded, answer.reason) == ("hot", "unknown_user")
    assert (snapshot.publication.candidates / HOT_ITEMS).exists()


@pytest.mark.parametrize("last", ["deep", "mf", "fine", "coarse", "merged", "hot"])
def test_what_does_not_fit_the_budget_falls_down_the_ladder(snapshot: Snapshot, last: str) -> None:
    """Steps after the last one that fits are expected to take an hour."""
    steps = ["rerank", "coarse", "fine", "mf", "deep"]
    first_slow = dict(zip(["hot", "merged", "coarse", "fine", "mf", "deep"], [*steps, ""], strict=True))[last]
    costs = Costs()
    costs.mean_ms = {step: 3_600_000.0 if step == first_slow else 0.0 for step in steps}
    budget = Budget(60_000, costs, time.perf_counter())
    answer = engine.recommend(snapshot, RecommendRequest("u1"), end_of_day(snapshot), budget, length=5, exploration=0)
    assert answer.rung == last
    assert answer.degraded == (None if last == "deep" else last)
    assert answer.reason == (None if last == "deep" else "budget")
    assert len(answer.entries) == 5


def test_a_model_that_is_gone_is_done_without(snapshot: Snapshot, home: Path, tmp_path: Path) -> None:
    publication, runs = snapshot.publication, {}
    for name, folder in snapshot.publication.runs.items():
        runs[name] = tmp_path / folder.name
        shutil.copytree(folder, runs[name])
    (runs["lightgbm"] / "model" / "model.txt").unlink()
    damaged = next((runs["deepfm"] / "model").glob("*.pt"))
    damaged.write_bytes(damaged.read_bytes()[:-10])
    stack = load_stack(config_of(home), replace(publication, runs=runs), tmp_path)
    assert set(stack.missing) == {"coarse", "deep"}
    assert "model.txt is missing" in stack.missing["coarse"]
    answer = engine.rank(
        replace(snapshot, stack=stack), RankRequest("u1", ["i1", "i2"]), datetime.now(UTC), unlimited()
    )
    assert (answer.rung, answer.degraded, answer.reason) == ("mf", "mf", "missing_model")
    nothing = replace(snapshot, stack=replace(stack, rankers={}))
    answer = engine.recommend(nothing, RecommendRequest("u1"), datetime.now(UTC), unlimited(), length=5, exploration=0)
    assert (answer.degraded, len(answer.entries)) == ("merged", 5)


def test_filters_and_exclusions_leave_items_out(snapshot: Snapshot) -> None:
    at = end_of_day(snapshot)

    def items(**fields: Any) -> list[str]:
        request = RecommendRequest("u1", n=20, **fields)
        return [e.item for e in engine.recommend(snapshot, request, at, unlimited(), length=20, exploration=0).entries]

    everything = items()
    assert items(exclude=everything[:3])[:5] != everything[:5]
    assert not set(items(exclude=everything[:3])) & set(everything[:3])
    names = snapshot.state.categories.names
    topic = names[snapshot.state.item_category[snapshot.state.items.find(everything[:1])[0]]]
    of_topic = items(filter=engine.Filter(categories=[str(topic)]))
    codes = snapshot.state.items.find(of_topic)
    assert of_topic
    assert {names[code] for code in snapshot.state.item_category[codes]} == {topic}
    assert items(filter=engine.Filter(categories=["no such topic"])) == []


def test_items_are_ranked_once_and_similar_ones_are_others(snapshot: Snapshot) -> None:
    request = RankRequest("u1", ["i5", "new", "i7", "i5"], explain=True)
    answer = engine.rank(snapshot, request, end_of_day(snapshot), unlimited())
    assert sorted(entry.item for entry in answer.entries) == ["i5", "i7", "new"]
    explanation = answer.entries[0].explanation
    assert explanation is not None
    assert set(explanation["scores"]) == {"merged", "coarse", "fine", "mf", "deep"}
    assert len(explanation["features"]) == len(SPARSE) + len(DENSE)
    near = engine.similar(snapshot, SimilarRequest("i5", 5)).entries
    assert len({entry.item for entry in near} - {"i5"}) == 5
    assert engine.similar(snapshot, SimilarRequest("new", 5)).reason == "unknown_item"


# --- the server ---


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/v1/recommend", {"user": "u1", "n": "3"}, 400, "n: Expected `int | null`, got `str`"),
        ("/v1/recommend", b"{", 400, "truncated"),
        ("/v1/recommend", b"\xff\xfe", 400, "invalid"),
        ("/v1/recommend", {"user": "u1", "context": {"at": "now"}}, 400, "context.at: write it as"),
        ("/v1/rank", {"user": "u1", "items": []}, 400, "items: Expected `array` of length >= 1"),
        ("/v1/rank", {"user": "u1", "items": ["x" * 201]}, 400, "items[0]: Expected `str` of length <= 200"),
        ("/v1/events", [{"event_id": "e", "type": "click"}], 400, "[0]: Object missing required field `user_id`"),
        ("/v1/events", {"event_id": "e", "type": "impression", "user_id": "u", "item_id": "i"}, 400, "position: "),
        ("/v1/rank", b"x" * 300_000, 413, "more than 262144 bytes"),
        ("/v1/nothing", {}, 404, "Not Found"),
        ("/v1/rank", None, 405, "Method Not Allowed"),
    ],
)
def test_a_wrong_request_gets_one_line(server: Server, path: str, body: Any, status: int, message: str) -> None:
    answered, answer, _ = server.ask(path, body)
    assert answered == status
    assert message in answer["error"]
    assert "\n" not in answer["error"]
    assert "Traceback" not in json.dumps(answer)


def test_a_click_changes_the_next_list_of_its_user_whatever_worker_answers(server: Server, snapshot: Snapshot) -> None:
    before, others = server.items("u7"), server.items("u8")
    click = {"event_id": "click-1", "type": "click", "user_id": "u7", "item_id": before[0]}
    assert server.ask("/v1/events", click)[1] == {"accepted": 1, "repeated": 0}
    for _ in range(12):  # each on a connection of its own: both workers take part
        after = server.items("u7")
        assert before[0] not in after
    assert server.items("u8") == others
    # Sent again, alone and with itself.
    assert server.ask("/v1/events", [click, click])[1] == {"accepted": 0, "repeated": 2}
    # A new user's first click: similar items, by all models, which may like others more.
    assert server.ask("/v1/recommend", {"user": "newcomer"})[1]["degraded"] == "hot"
    first = {**click, "event_id": "click-2", "user_id": "newcomer"}
    assert server.ask("/v1/events", first)[0] == 200
    answer = server.ask("/v1/recommend", {"user": "newcomer", "n": 100})[1]
    assert "degraded" not in answer
    assert any("recent" in item["channels"] for item in answer["items"])
    assert server.ask("/v1/models")[1]["current"]["recent_events"] == 2


def test_a_shown_list_lands_with_the_features_that_it_was_ranked_by(server: Server, home: Path) -> None:
    answer = server.ask("/v1/recommend", {"user": "u9", "n": 3, "context": {"device": "phone"}})[1]
    shown = [
        {
            "event_id": item["impression_id"],
            "type": "impression",
            "user_id": "u9",
            "item_id": item["item"],
            "position": item["position"],
            "request_id": answer["request_id"],
        }
        for item in answer["items"]
    ]
    time.sleep(1.2)  # the served log is written a second late at most
    assert server.ask("/v1/events", shown)[1]["accepted"] == 3
    ids = {one["event_id"] for one in shown}

    def landed() -> list[Any]:
        long_ago = (datetime.now(UTC) - timedelta(days=9)).date()
        return [event for event in landed_events(config_of(home), long_ago, "UTC") if event.event_id in ids]

    wait_until(lambda: len(landed()) == 3, seconds=20)
    for event in landed():
        # All features but the position, which the impression has itself.
        assert set(event.features) >= {f.name for f in SPARSE} - {"position"}
        assert "position" not in event.features
        assert 0 <= event.features["user_id"] < 65536


def test_metrics_count_what_both_workers_did(server: Server) -> None:
    for _ in range(8):
        server.ask("/v1/rank", {"user": "u1", "items": ["i1", "i2"]})
    status, text, headers = server.ask("/metrics")
    assert (status, headers["content-type"].split(";")[0]) == (200, "text/plain")
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(lines['millrace_requests_total{path="/v1/rank",status="200"}']) >= 8
    assert float(lines['millrace_answers_total{path="/v1/rank",rung="deep"}']) >= 8
    assert float(lines["millrace_model_age_seconds"]) > 0
    assert server.ask("/docs")[0] == 200
    assert server.ask("/openapi.json")[1]["paths"]["/v1/rank"]


def test_slow_clients_are_cut_off_and_keep_nobody_waiting(server: Server) -> None:
    slow = []
    for _ in range(40):
        client = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        client.sendall(b"POST /v1/rank HTTP/1.1\r\nHost: x\r\n")  # and no more of its head
        slow.append(client)
    late = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    late.sendall(b"POST /v1/rank HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")  # and no more of its body
    for _ in range(5):
        assert server.ask("/v1/rank", {"user": "u1", "items": ["i1"]}, timeout=10)[0] == 200
    for client in slow:
        assert client.recv(100) == b""  # closed after read_s
        client.close()
    assert late.recv(1000).startswith(b"HTTP/1.1 408 ")
    late.close()


def test_too_many_at_once_are_refused_and_not_queued(home: Path, server: Server) -> None:
    """A burst of 60 requests of 500 items on one connection each; at most 3 may wait at a worker."""
    items = [f"i{n}" for n in range(500)]
    results: list[tuple[int, dict[str, str]]] = []

    def ask() -> None:
        status, _, headers = server.ask("/v1/rank", {"user": "u1", "items": items}, timeout=60)
        results.append((status, headers))

    for _ in range(5):
        threads = [threading.Thread(target=ask) for _ in range(60)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if {status for status, _ in results} == {200, 429}:
            break
    statuses = Counter(status for status, _ in results)
    assert set(statuses) == {200, 429}
    assert next(headers for status, headers in results if status == 429)["retry-after"] == "1"


def test_a_promotion_and_a_rollback_fail_and_mix_no_request(home: Path, server: Server, snapshot: Snapshot) -> None:
    """A second run ranks by recall alone: each answer must be that of the model that it names."""
    promoted = home / "runs" / "promoted" / f"{snapshot.publication.day}.json"
    before, second = promoted.read_text(), "recommend-second"
    shutil.copytree(snapshot.publication.lists, home / "runs" / second)
    (home / "runs" / second / "model" / "blend.json").unlink()
    blend = {"kind": "blend", "order": "blend", "weights": {"merged": 1.0, "coarse": 0.0}}
    (home / "runs" / second / "model" / "blend.json").write_text(json.dumps(blend))
    answers: list[tuple[int, str, tuple[str, ...]]] = []
    stopped = threading.Event()

    def ask() -> None:
        while not stopped.is_set():
            body = {"user": "u3", "n": 8, "context": {"at": "2026-01-05T00:00:00Z"}}
            status, answer, _ = server.ask("/v1/recommend", body)
            answers.append((status, answer.get("model", ""), tuple(item["item"] for item in answer.get("items", ()))))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for text in (json.dumps({**json.loads(before), "recommend": second}), before) * 2:
            model = json.loads(text)["recommend"]
            staged = promoted.with_suffix(".new")
            staged.write_text(text)
            staged.replace(promoted)
            # Both workers, by connections of their own.
            wait_until(lambda model=model: all(server.ask("/health/ready")[1]["model"] == model for _ in range(8)))
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
    assert {status for status, _, _ in answers} == {200}
    by_model = {model: {items for _, name, items in answers if name == model} for model in {a[1] for a in answers}}
    assert set(by_model) == {snapshot.model, second}
    assert [len(lists) for lists in by_model.values()] == [1, 1]
    assert by_model[snapshot.model] != by_model[second]


def test_accepted_events_outlast_kills_of_workers_and_of_all(
    finished_day: FinishedDay, tmp_path: Path, snapshot: Snapshot
) -> None:
    """Writers send events again until they are accepted; every accepted one is there once, and counts once."""
    home = copied(finished_day, tmp_path / "home")
    accepted: list[str] = []
    rng, counter, stopped = random.Random(4), iter(range(10**9)), threading.Event()
    running: list[Server] = []

    def write() -> None:
        while not stopped.is_set():
            number = next(counter)
            event = {"event_id": f"e{number}", "type": "impression", "user_id": "u5", "item_id": "i5", "position": 1}
            while not stopped.is_set():
                try:
                    if running[-1].ask("/v1/events", [event], timeout=5)[0] == 200:
                        accepted.append(event["event_id"])
                        break
                except (OSError, ValueError, http.client.HTTPException):
                    time.sleep(0.02)  # killed: the same event again

    with serving(home, "serving.roll_s=0.3", workers=2) as first:
        running.append(first)
        threads = [threading.Thread(target=write) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(6):
            time.sleep(rng.uniform(0.1, 0.4))
            # Who was killed a moment ago may still be listed.
            os.kill(rng.choice([pid for pid in first.about["workers"] if psutil.pid_exists(pid)]), signal.SIGKILL)
            count = len(accepted)
            wait_until(lambda count=count: len(accepted) > count + 5)
        everybody = [first.process.pid, *first.about["workers"]]
        for pid in filter(psutil.pid_exists, everybody):
            os.kill(pid, signal.SIGKILL)
        first.process.wait(timeout=30)
    (home / "serving" / "server.json").unlink(missing_ok=True)
    with serving(home, "serving.roll_s=0.3") as second:
        running.append(second)
        count = len(accepted)
        wait_until(lambda: len(accepted) > count + 5)
        stopped.set()
        for thread in threads:
            thread.join()
        status = second.ask("/v1/models")[1]["current"]
        shown = second.ask("/v1/rank", {"user": "u5", "items": ["i5"], "explain": True})[1]
        second.process.terminate()
        second.process.wait(timeout=30)
    landed = Counter(
        json.loads(line)["event_id"]
        for path in (home / "landing" / "events").rglob("serve-*.log")
        for line in path.read_text().splitlines()
    )
    assert len(accepted) == len(set(accepted)) > 40
    assert set(accepted) <= set(landed)
    assert len(landed) <= len(accepted) + len(threads)  # written, and killed before the answer
    assert set(landed.values()) == {1}
    assert status["recent_events"] == len(landed)
    item_shown = shown["items"][0]["explanation"]["features"]["item_shown"]
    before = load_snapshot(config_of(home), published(config_of(home))).state
    base = np.expm1(
        before.features(before.user("u5"), before.items.find(["i5"]), None, datetime.now(UTC), None).row(0)[
            "item_shown"
        ]
    )
    assert np.expm1(item_shown) == pytest.approx(base + len(landed), rel=1e-4)


def test_others_need_the_token_and_arms_have_their_own_lists(
    finished_day: FinishedDay, tmp_path: Path, snapshot: Snapshot
) -> None:
    refused = subprocess.run(
        [str(Path(sys.executable).parent / "millrace"), "serve", "--host", "0.0.0.0", "--port", "0"],
        cwd=ROOT,
        env={**os.environ, "MILLRACE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert refused.returncode == 1
    assert "serving.host 0.0.0.0 lets others in" in refused.stderr
    elsewhere = copied(finished_day, tmp_path / "home")
    arms = "serving.arms={a: {}, b: {order: merged}}"
    with serving(elsewhere, "serving.experiment=orders", arms, BUDGET, MILLRACE__SERVING__TOKEN=TOKEN) as guarded:
        query = {"user": "u1"}
        assert guarded.ask("/v1/recommend", query)[0] == 401
        assert guarded.ask("/metrics")[0] == 401
        assert guarded.ask("/v1/models", headers={"Authorization": "Bearer wrong"})[0] == 401
        assert guarded.ask("/v1/recommend", query, {"Authorization": f"Bearer {TOKEN}"})[0] == 200
        assert guarded.ask("/health/live")[0] == 200
        expect_arms(guarded, snapshot)


def expect_arms(guarded: Server, snapshot: Snapshot) -> None:
    """Each user has the list of the arm that the answer names, and the log of served lists names it, too."""
    headers, arms = {"Authorization": f"Bearer {TOKEN}"}, Counter[str]()
    state, at = snapshot.state, end_of_day(snapshot)
    for user in ("u1", "u2", "u3", "u4", "u5", "u6", "u7", "u8"):
        query = {"user": user, "n": 3, "context": {"at": at.isoformat()}}
        answer = guarded.ask("/v1/recommend", query, headers)[1]
        arm = answer["experiment"]["arm"]
        stack = replace(snapshot.stack, order="merged" if arm == "b" else snapshot.stack.order)
        request = RecommendRequest(user, n=3)
        expected = engine.recommend(replace(snapshot, stack=stack), request, at, unlimited(), length=3, exploration=0)
        assert [item["item"] for item in answer["items"]] == [entry.item for entry in expected.entries]
        arms[arm] += 1
    assert set(arms) == {"a", "b"}
    assert state.recent.num_events == 0
