"""The site's event files (JSON lines) with what real ones have: late, doubled and broken lines; and the truth aside."""

import json
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from etl.simulator.traffic import Block
from etl.simulator.world import DEVICES, TOPICS, World

LATE_SHARE = 0.005
DOUBLE_SHARE = 0.003
BROKEN = (
    '{"event_id": "x", "type": "click", "ts": "2026-',
    "not json at all",
    '{"event_id": "y", "type": "click", "ts": "2026-01-01T00:00:00.000Z"}',
)


def write_block(world: World, block: Block, day: date, day_index: int, today: Path, tomorrow: Path) -> dict[str, int]:
    """Append one block's events to its files; a few clicks reach the log only after midnight."""
    rng = world.rng(200, day_index, block.number)
    on_time: list[str] = []
    late: list[str] = []
    counts = {"impressions": int(block.items.size), "clicks": int(block.is_clicked.sum()), "late": 0}
    for kind, line in _lines(world, block, day):
        is_late = kind == "click" and rng.random() < LATE_SHARE
        (late if is_late else on_time).append(line)
        if rng.random() < DOUBLE_SHARE:
            on_time.append(line)
    on_time.extend(BROKEN if block.number == 0 else ())
    counts["late"] = len(late)
    _write(today / f"events-{block.number:04d}.jsonl", on_time)
    if late:
        _write(tomorrow / f"late-{day.isoformat()}-{block.number:04d}.jsonl", late)
    return counts


def _lines(world: World, block: Block, day: date) -> Iterator[tuple[str, str]]:
    midnight = datetime(day.year, day.month, day.day)
    for row in range(len(block.users)):
        user = int(block.users[row])
        request = f"r{day:%Y%m%d}-{block.number}-{row}"
        who = f'"user_id":"u{user}","request_id":"{request}","device":"{DEVICES[world.user_device[user]]}"'
        shown = _timestamp(midnight, int(block.at_ms[row]))
        for place in range(block.items.shape[1]):
            item = int(block.items[row, place])
            impression = f"{request}-{place + 1}"
            what = f'"item_id":"i{item}","impression_id":"{impression}","position":{place + 1}'
            yield "impression", f'{{"event_id":"{impression}","type":"impression","ts":"{shown}",{who},{what}}}'
            if block.is_clicked[row, place]:
                at_ms = int(block.at_ms[row] + block.click_delay_ms[row, place])
                yield from _acts(block, row, place, f"{who},{what}", impression, midnight, at_ms)


def _acts(
    block: Block, row: int, place: int, rest: str, impression: str, midnight: datetime, at_ms: int
) -> Iterator[tuple[str, str]]:
    yield "click", f'{{"event_id":"c-{impression}","type":"click","ts":"{_timestamp(midnight, at_ms)}",{rest}}}'
    if block.is_liked[row, place]:
        at = _timestamp(midnight, at_ms + 5_000)
        yield "like", f'{{"event_id":"l-{impression}","type":"like","ts":"{at}",{rest}}}'
    if block.is_bought[row, place]:
        at = _timestamp(midnight, at_ms + 60_000)
        amount = 5 + (int(block.items[row, place]) * 37) % 95
        yield "purchase", f'{{"event_id":"p-{impression}","type":"purchase","ts":"{at}","value":{amount},{rest}}}'


def write_truth(block: Block, day: date, folder: Path) -> None:
    """The true click probability of every impression, kept apart from all that a training job reads."""
    folder.mkdir(parents=True, exist_ok=True)
    prefix = f"r{day:%Y%m%d}-{block.number}-"
    n, m = block.items.shape
    ids = [f"{prefix}{row}-{place + 1}" for row in range(n) for place in range(m)]
    table = pa.table({"impression_id": ids, "probability": block.probability.ravel()})
    pq.write_table(table, folder / f"truth-{block.number:04d}.parquet")


def write_texts(world: World, day: date, day_index: int, folder: Path) -> int:
    """Short posts with #topics#, for trends."""
    rng = world.rng(300, day_index)
    midnight = datetime(day.year, day.month, day.day)
    count = max(10, world.num_requests // 10)
    weights = 1.0 / (1 + (np.arange(world.settings.topics) + day_index) % world.settings.topics)
    lines = []
    for i in range(count):
        topic = TOPICS[int(rng.choice(world.settings.topics, p=weights / weights.sum())) % len(TOPICS)]
        at = _timestamp(midnight, int(rng.integers(0, 86_400_000)))
        text = {"text_id": f"t{day:%Y%m%d}-{i}", "user_id": f"u{rng.integers(world.num_users)}", "ts": at}
        lines.append(json.dumps({**text, "text": f"thinking about #{topic}# today"}))
    _write(folder / "texts-0000.jsonl", lines)
    return count


def _timestamp(midnight: datetime, at_ms: int) -> str:
    return (midnight + timedelta(milliseconds=at_ms)).isoformat(timespec="milliseconds") + "Z"


def _write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
