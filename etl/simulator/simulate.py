"""Fill the landing zone with days of a believable site: `millrace simulate --days 7 --scale 1 --seed 7`."""

import logging
import shutil
from collections import Counter
from datetime import date, timedelta

from conf import Config, Paths, UserError
from etl.simulator import business, events, images, traffic, weblog
from etl.simulator.settings import SimulatorSettings
from etl.simulator.truth import write_world
from etl.simulator.world import World

log = logging.getLogger(__name__)


def run(config: Config, *, days: int, scale: float, seed: int) -> dict[str, object]:
    """Generate a site and write its landing zone, truth and business database, in place of an earlier simulation.

    Args:
        config: `simulator.*` gives the sizes at scale 1 and the first day.
        days: number of days.
        scale: 1 is some 200,000 impressions in 7 days.
        seed: the same arguments and seed give the same bytes.

    Returns:
        First and last day, users, items, and counts of what was written.

    Raises:
        UserError: if the landing zone holds data that no simulation wrote.
    """
    paths, settings = config.get(Paths), config.get(SimulatorSettings)
    world = World(settings, scale, seed)
    _clear(paths)
    write_world(world, paths.truth)
    totals = Counter(dict.fromkeys(("impressions", "clicks", "late", "log_lines", "texts"), 0))
    for day_index in range(days):
        day = settings.start + timedelta(days=day_index)
        totals.update(_write_day(world, paths, day, day_index))
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
    """Remove an earlier simulation. A landing zone without the truth beside it may hold somebody's only logs."""
    landing, truth = paths.root / "landing", paths.truth
    if landing.exists() and not truth.exists():
        raise UserError(f"{landing} holds data that no simulation wrote: choose another MILLRACE_HOME or move it away")
    for folder in (landing, truth):
        shutil.rmtree(folder, ignore_errors=True)
    truth.mkdir(parents=True)


def _write_day(world: World, paths: Paths, day: date, day_index: int) -> Counter[str]:
    # Late events land in the next day's folder, as they would from a real log shipper.
    tomorrow = paths.landing("events", day + timedelta(days=1))
    counts = Counter(texts=events.write_texts(world, day, day_index, paths.landing("texts", day)))
    for block in traffic.request_blocks(world, day_index):
        counts.update(events.write_block(world, block, day, day_index, paths.landing("events", day), tomorrow))
        log_lines = weblog.write_block(world, block, day, day_index, paths.landing("weblog", day))
        counts.update(log_lines=log_lines)
        events.write_truth(block, day, paths.truth / f"dt={day.isoformat()}")
    return counts
