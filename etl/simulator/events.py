"""The site's event files (JSON lines) with real ones' faults: late, duplicated and malformed lines; and the truth."""

import json
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from etl.simulator.propensity import block_propensities
from etl.simulator.published import EXPERIMENT, PUBLISHED, SITE
from etl.simulator.traffic import MS_PER_DAY, RequestBlock
from etl.simulator.world import DEVICES, TOPICS, World

EXPOSURES = "simulated"  # begins the names of files of exposures: those of a real server may lie beside them
LATE_SHARE = 0.005  # of the clicks
DUPLICATE_SHARE = 0.003  # of all events
LIKE_DELAY_MS = 5_000  # after the click
PURCHASE_DELAY_MS = 60_000
# A truncated line, one that is not JSON, and an event without user and item.
MALFORMED = (
    '{"event_id": "x", "type": "click", "ts": "2026-',
    "not json at all",
    '{"event_id": "y", "type": "click", "ts": "2026-01-01T00:00:00.000Z"}',
)


def write_block(
    world: World, block: RequestBlock, day: date, day_index: int, today: Path, tomorrow: Path
) -> dict[str, int]:
    """Write one block's events; a few clicks reach the log only after midnight, some events are logged twice.

    Args:
        world: the users and items that the block's numbers refer to.
        block: requests of the day.
        day: the date of the events.
        day_index: days since the site's first day, for the random stream.
        today: landing folder of the day.
        tomorrow: landing folder of the day after, for late clicks.

    Returns:
        Counts of `impressions`, `clicks` and `late` events.
    """
    rng = world.rng(200, day_index, block.number)
    on_time: list[str] = []
    late: list[str] = []
    propensity = np.where(block.is_published[:, None], block.propensity, block_propensities(world, block, day_index))
    for event_type, line in _events(world, block, day, propensity):
        is_late = event_type == "click" and rng.random() < LATE_SHARE
        (late if is_late else on_time).append(line)
        if rng.random() < DUPLICATE_SHARE:
            on_time.append(line)
    on_time.extend(MALFORMED if block.number == 0 else ())
    _write_lines(today / f"events-{block.number:04d}.jsonl", on_time)
    if late:
        _write_lines(tomorrow / f"late-{day.isoformat()}-{block.number:04d}.jsonl", late)
    return {"impressions": int(block.items.size), "clicks": int(block.is_clicked.sum()), "late": len(late)}


def _events(world: World, block: RequestBlock, day: date, propensity: NDArray[np.float64]) -> Iterator[tuple[str, str]]:
    """Event type and JSON line of every event of the block, request by request; impressions with their propensity.

    Formatted by f-strings, several times as fast as `json.dumps` of dicts.
    """
    midnight = datetime.combine(day, time())
    for row in range(len(block.users)):
        user = int(block.users[row])
        request = f"r{day:%Y%m%d}-{block.number}-{row}"
        context = f'"user_id":"u{user}","request_id":"{request}","device":"{DEVICES[world.user_device[user]]}"'
        shown_at = _timestamp(midnight, int(block.at_ms[row]))
        for column in range(block.items.shape[1]):
            position = column + 1
            impression = f"{request}-{position}"
            item = f'"item_id":"i{block.items[row, column]}","impression_id":"{impression}","position":{position}'
            rest = f"{context},{item}"
            shown = f'{{"event_id":"{impression}","type":"impression","ts":"{shown_at}",{rest}'
            yield "impression", f'{shown},"propensity":{propensity[row, column]:.6g}}}'
            if block.is_clicked[row, column]:
                yield from _actions(block, row, column, rest, impression, midnight)


def _actions(
    block: RequestBlock, row: int, column: int, rest: str, impression: str, midnight: datetime
) -> Iterator[tuple[str, str]]:
    """The click on an impression, and the like and purchase that follow it."""
    at_ms = int(block.at_ms[row] + block.click_delay_ms[row, column])
    yield "click", f'{{"event_id":"c-{impression}","type":"click","ts":"{_timestamp(midnight, at_ms)}",{rest}}}'
    if block.is_liked[row, column]:
        at = _timestamp(midnight, at_ms + LIKE_DELAY_MS)
        yield "like", f'{{"event_id":"l-{impression}","type":"like","ts":"{at}",{rest}}}'
    if block.is_bought[row, column]:
        at = _timestamp(midnight, at_ms + PURCHASE_DELAY_MS)
        amount = 5 + (int(block.items[row, column]) * 37) % 95  # a fixed price per item, from 5 to 99
        yield "purchase", f'{{"event_id":"p-{impression}","type":"purchase","ts":"{at}","value":{amount},{rest}}}'


def write_exposures(block: RequestBlock, day: date, folder: Path) -> None:
    """Write which arm answered each request with what, as the server logs what it serves.

    `millrace experiment read` takes the arms from here.
    """
    lines = []
    arms = np.where(block.is_published, PUBLISHED, SITE)
    for row, user in enumerate(block.users.tolist()):
        line = {"request_id": f"r{day:%Y%m%d}-{block.number}-{row}", "kind": "recommend", "user_id": f"u{user}"}
        experiment = {"name": EXPERIMENT, "arm": str(arms[row])}
        lines.append(json.dumps({**line, "experiment": experiment, "items": [f"i{n}" for n in block.items[row]]}))
    _write_lines(folder / f"{EXPOSURES}-{block.number:04d}.jsonl", lines)


def write_truth(block: RequestBlock, day: date, folder: Path) -> None:
    """Write the true click probability of every impression, in a folder that no training job reads.

    Reports compare models with the best possible AUC and log loss, which follow from it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    n, m = block.items.shape
    ids = [f"r{day:%Y%m%d}-{block.number}-{row}-{column + 1}" for row in range(n) for column in range(m)]
    table = pa.table({"impression_id": ids, "probability": block.probability.ravel()})
    pq.write_table(table, folder / f"truth-{block.number:04d}.parquet")


def write_texts(world: World, day: date, day_index: int, folder: Path) -> int:
    """Write short posts with #topics#, the input of the stream of hot topics; returns how many.

    The weights of the topics rotate by one a day, so that the hottest topic changes.
    """
    rng = world.rng(300, day_index)
    midnight = datetime.combine(day, time())
    count = max(10, world.num_requests // 10)
    num_topics = world.settings.topics
    weights = 1.0 / (1 + (np.arange(num_topics) + day_index) % num_topics)  # (topics,)
    lines = []
    for i in range(count):
        topic = TOPICS[int(rng.choice(num_topics, p=weights / weights.sum())) % len(TOPICS)]
        at = _timestamp(midnight, int(rng.integers(0, MS_PER_DAY)))
        text = {"text_id": f"t{day:%Y%m%d}-{i}", "user_id": f"u{rng.integers(world.num_users)}", "ts": at}
        lines.append(json.dumps({**text, "text": f"thinking about #{topic}# today"}))
    _write_lines(folder / "texts-0000.jsonl", lines)
    return count


def _timestamp(midnight: datetime, at_ms: int) -> str:
    moment = midnight + timedelta(milliseconds=at_ms)
    return moment.isoformat(timespec="milliseconds") + "Z"


def _write_lines(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
