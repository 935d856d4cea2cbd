"""W14: rolling counts against plain Python, late and doubled events, and kills in the middle."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.errors import StreamingQueryException
from pyspark.sql import SparkSession
from support import ROOT

from conf import Config, Paths, UserError
from etl.streams import hot
from etl.table import Table
from etl.tables import ads
from etl.warehouse.store import Warehouse

START = datetime(2026, 4, 1, 23, 55, tzinfo=UTC)
WINDOW, SLIDE = timedelta(seconds=9), timedelta(seconds=3)
NOTES = {"stream.window": "9 seconds", "stream.slide": "3 seconds", "stream.watermark": "5 seconds", "stream.top": 3}


def text(number: int, at: datetime, *topics: str) -> dict[str, str]:
    return {"text_id": f"t{number}", "ts": at.isoformat(), "text": "see " + " and ".join(f"#{t}#" for t in topics)}


def land(folder: Path, name: str, rows: list[dict[str, str]], *more: str) -> None:
    """A file appears whole, by a rename, as the collector makes it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f".{name}").write_text("".join(json.dumps(row) + "\n" for row in rows) + "".join(more))
    (folder / f".{name}").rename(folder / name)


def expected(texts: list[dict[str, str]], last: datetime, top: int) -> set[tuple[datetime, int, str, int]]:
    """(window start, rank, topic, count) of every window that is final when `last` is the watermark."""
    counts: Counter[tuple[datetime, str]] = Counter()
    for row in {row["text_id"]: row for row in texts}.values():
        at = datetime.fromisoformat(row["ts"])
        for topic in set(row["text"].split("#")[1::2]):
            first = at - (at - datetime(1970, 1, 1, tzinfo=UTC)) % SLIDE
            for back in range(WINDOW // SLIDE):
                counts[first - back * SLIDE, topic] += 1
    found = set()
    for start in {start for start, _ in counts}:
        ranked = sorted((-n, topic) for (begun, topic), n in counts.items() if begun == start)[:top]
        if start + WINDOW <= last:
            found |= {(start, rank, topic, -n) for rank, (n, topic) in enumerate(ranked, 1)}
    return found


def stored(warehouse: Warehouse) -> list[tuple[datetime, int, str, int]]:
    rows = warehouse.read(ads.hot_topic).select("window_start", "rank", "topic", "count").collect()
    return [(row[0].replace(tzinfo=UTC), row[1], row[2], row[3]) for row in rows]


@pytest.fixture
def streaming(config: Config, tmp_path: Path) -> Config:
    """The session's warehouse, and a landing zone and checkpoints of the test's own."""
    warehouse_root = config.get(Paths).warehouse
    return config.with_values({"paths.home": str(tmp_path), "paths.warehouse_root": warehouse_root, **NOTES})


def test_windows_are_counted_ranked_and_written_once(spark: SparkSession, streaming: Config, tmp_path: Path) -> None:
    """Over midnight, with ties, doubles, broken lines, and one text that comes too late."""
    chance = random.Random(3)
    names = [f"topic {n}" for n in range(12)]
    texts = [
        text(n, START + timedelta(seconds=600 * n / 400), *chance.sample(names, chance.randint(1, 2)))
        for n in range(400)
    ]
    folder = tmp_path / "landing/texts/dt=2026-04-01"
    land(folder, "a.jsonl", texts[:300], "{broken\n", json.dumps({"text_id": "x", "ts": "never", "text": "#y#"}) + "\n")
    told = hot.run(spark, streaming, "hot-topics", once=True)
    assert (told["rows_in"], told["rows_out"], told["rows_late"], told["rows_refused"]) == (302, 300, 0, 2)
    land(folder, "b.jsonl", [text(-1, START, "far too late"), *texts[290:]])
    told = hot.run(spark, streaming, "hot-topics", once=True)
    assert (told["rows_in"], told["rows_out"], told["rows_invalid"]) == (111, 100, 11)
    assert told["rows_refused"] == 0
    watermark = datetime.fromisoformat(texts[299]["ts"]) - timedelta(seconds=5)
    assert told["rows_late"] == 1 + sum(datetime.fromisoformat(row["ts"]) < watermark for row in texts[290:300])
    warehouse = Warehouse(spark, streaming)
    last = datetime.fromisoformat(texts[-1]["ts"]) - timedelta(seconds=5)
    found = stored(warehouse)
    assert len(found) == len(set(found))
    assert set(found) == expected(texts, last, 3)
    assert {row["dt"] for row in warehouse.read(ads.hot_topic).select("dt").distinct().collect()} == {
        "2026-04-01",
        "2026-04-02",
    }
    assert hot.run(spark, streaming, "hot-topics", once=True)["rows_in"] == 0
    assert sorted(stored(warehouse)) == sorted(found)


def test_a_window_is_of_the_day_on_which_it_starts_by_the_sites_clock(spark: SparkSession) -> None:
    """Berlin's 2026-04-02 begins at 22:00 UTC of the day before."""
    rows = [(datetime(2026, 4, 1, 21, minute, tzinfo=UTC), "food", 1) for minute in (50, 59)]
    rows.append((datetime(2026, 4, 1, 22, tzinfo=UTC), "food", 1))
    starts = spark.createDataFrame(rows, "start timestamp, key string, count bigint")
    counted = starts.selectExpr("struct(start, start + interval 20 minutes as end) as window", "key", "count")
    for zone, days in (("UTC", ["2026-04-01"] * 3), ("Europe/Berlin", ["2026-04-01", "2026-04-01", "2026-04-02"])):
        ranked = hot.rank_keys(counted, "topic", 3, zone).orderBy("window_start").collect()
        assert [row["dt"] for row in ranked] == days


def act(number: int, kind: str, item: str, **more: object) -> dict[str, Any]:
    at = (START + timedelta(seconds=number)).isoformat()
    return {"event_id": f"e{number}", "type": kind, "ts": at, "user_id": "u", "item_id": item, "position": 1, **more}


def test_hot_products_come_from_actions_that_the_daily_load_accepts(
    spark: SparkSession, streaming: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An event of the year 9999 would make all others late; a zoneless one may be of any hour."""
    zoneless = START.replace(tzinfo=None).isoformat()
    valid = [act(0, "impression", "a"), act(1, "click", " b "), act(2, "like", "b"), act(3, "purchase", "c")]
    refused = [
        act(4, "x", "c"),
        act(5, "click", " "),
        act(6, "click", "c", item_id=["c"]),
        act(7, "click", "c", ts=zoneless),
        act(8, "click", "c", ts="9999-12-31T00:00:00Z"),
        act(9, "impression", "c", position=0),
    ]
    lines = [json.dumps(act(1, "click", "b")), "{'event_id': 'e'}", json.dumps(act(2, "like", "b")) + " {}"]
    land(tmp_path / "landing/events/dt=2026-04-01", "a.jsonl", [*valid, *refused], "\n".join(lines) + "\n")
    land(tmp_path / "landing/events/dt=2026-04-02", "b.jsonl", [act(300, "click", "z")])
    counts = hot.run(spark, streaming, "hot-products", once=True)
    whole = Warehouse(spark, streaming).read(ads.hot_product).where("window_start = '2026-04-01 23:55:00'")
    assert sorted((r["rank"], r["item_id"], r["count"]) for r in whole.collect()) == [(1, "b", 2), (2, "c", 1)]
    assert [counts[f"rows_{name}"] for name in ("in", "out", "invalid", "refused")] == [14, 5, 9, 8]
    reasons = ["missing_field", "bad_type", "no_time_zone", "in_future", "unknown_type", "bad_position"]
    assert "hot-products: refused lines: 2 not_json, " + ", ".join(f"1 {name}" for name in reasons) in caplog.text


def test_kafka_without_its_package_is_one_line(spark: SparkSession, streaming: Config) -> None:
    with pytest.raises(UserError, match="Spark has no Kafka source: name its package"):
        hot.run(spark, streaming.with_values({"stream.kafka_servers": "localhost:1"}), "hot-topics", once=True)


def test_a_batch_that_was_written_but_not_noted_is_written_once(
    spark: SparkSession, streaming: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream fails between the table's swap and its own checkpoint; the batch comes again and replaces itself."""
    texts = [text(n, START + timedelta(seconds=n), f"topic {n % 7}") for n in range(600)]
    land(tmp_path / "landing/texts/dt=2026-04-01", "a.jsonl", texts)
    write = Warehouse.write

    def write_and_fail(self: Warehouse, table: Table, *arguments: object, **options: object) -> object:
        write(self, table, *arguments, **options)  # type: ignore[arg-type]
        raise OSError("the machine went down")

    monkeypatch.setattr(Warehouse, "write", write_and_fail)
    with pytest.raises(StreamingQueryException, match="the machine went down"):
        hot.run(spark, streaming, "hot-topics", once=True)
    monkeypatch.undo()
    warehouse = Warehouse(spark, streaming)
    assert stored(warehouse)  # readers see them already
    hot.run(spark, streaming, "hot-topics", once=True)
    found = stored(warehouse)
    assert len(found) == len(set(found))
    assert set(found) == expected(texts, datetime.fromisoformat(texts[-1]["ts"]) - timedelta(seconds=5), 3)


@pytest.mark.slow
@pytest.mark.wide
def test_kill_9_in_the_middle_leaves_each_window_once(tmp_path: Path) -> None:
    """The stream runs as its user runs it, is killed while batches are written, and started again."""
    overrides = [
        f"paths.home={tmp_path}",
        "spark.driver_memory=2g",
        "spark.compile_little=true",
        "stream.files_per_batch=1",
        "stream.trigger=1 second",
    ]
    overrides += [f"{key}={value}" for key, value in NOTES.items()]
    texts = [text(n, START + timedelta(seconds=n), f"topic {n % 7}", f"topic {n % 3}") for n in range(600)]
    for part in range(20):
        folder, name = tmp_path / "landing/texts/dt=2026-04-01", f"part-{part:02d}.jsonl"
        land(folder, name, texts[part * 30 : part * 30 + 30])
        os.utime(folder / name, (part, part))  # files are read in this order
    flags = [word for override in overrides for word in ("--set", override)]
    command = [str(Path(sys.executable).parent / "millrace"), "etl", "stream", "hot-topics", *flags]
    partitions = tmp_path / "warehouse/ads_hot_topic"
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 300
    while len(list(partitions.glob("run-*"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)  # with its JVM, somewhere in the sixth batch
    process.wait(timeout=30)
    assert len(list(partitions.glob("run-*"))) >= 5
    done = subprocess.run([*command, "--once"], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    told = subprocess.run(
        [command[0], "sql", "select * from ads_hot_topic", "--format", "json", *flags],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    rows = json.loads(told.stdout)
    starts = [datetime.fromisoformat(row["window_start"]).replace(tzinfo=UTC) for row in rows]
    found = [(start, row["rank"], row["topic"], row["count"]) for start, row in zip(starts, rows, strict=True)]
    last = datetime.fromisoformat(texts[-1]["ts"]) - timedelta(seconds=5)
    assert len(found) == len(set(found))
    assert set(found) == expected(texts, last, 3)
