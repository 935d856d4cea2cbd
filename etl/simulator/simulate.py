"""Fill the landing zone with days of a believable site: `millrace simulate --days 7 --scale 1 --seed 7`."""

import logging
import shutil
from datetime import date, timedelta

from conf import Config, Paths, UserError
from etl.settings import SimulatorSettings
from etl.simulator import business, events, images, traffic, weblog
from etl.simulator.world import World

log = logging.getLogger(__name__)


def run(config: Config, *, days: int, scale: float, seed: int) -> dict[str, object]:
    """Write `days` days; what an earlier simulation wrote for them is replaced. Same arguments, same bytes."""
    paths, settings = config.get(Paths), config.get(SimulatorSettings)
    world = World(settings, scale, seed)
    _clear(paths)
    totals = {"impressions": 0, "clicks": 0, "late": 0, "log_lines": 0, "texts": 0}
    for day_index in range(days):
        day = settings.start + timedelta(days=day_index)
        for name, count in _write_day(world, paths, day, day_index).items():
            totals[name] += count
        log.info("simulated %s", day)
    images.write_covers(world, paths.landing("images", settings.start))
    business.fill_database(world, paths.business)
    last = settings.start + timedelta(days=days - 1)
    return {
        "first_day": str(settings.start),
        "last_day": str(last),
        "users": world.num_users,
        "items": world.num_items,
        **totals,
    }


def _clear(paths: Paths) -> None:
    """Remove what an earlier simulation wrote; a landing zone that is not ours may hold somebody's only logs."""
    landing, truth = paths.root / "landing", paths.truth
    if landing.exists() and not truth.exists():
        raise UserError(f"{landing} holds data that no simulation wrote: choose another MILLRACE_HOME or move it away")
    for folder in (landing, truth):
        shutil.rmtree(folder, ignore_errors=True)
    truth.mkdir(parents=True)


def _write_day(world: World, paths: Paths, day: date, day_index: int) -> dict[str, int]:
    tomorrow = paths.landing("events", day + timedelta(days=1))
    totals = {"log_lines": 0, "texts": events.write_texts(world, day, day_index, paths.landing("texts", day))}
    for block in traffic.blocks(world, day_index):
        written = events.write_block(world, block, day, day_index, paths.landing("events", day), tomorrow)
        written["log_lines"] = weblog.write_block(world, block, day, day_index, paths.landing("weblog", day))
        events.write_truth(block, day, paths.truth / f"dt={day.isoformat()}")
        for name, count in written.items():
            totals[name] = totals.get(name, 0) + count
    return totals
