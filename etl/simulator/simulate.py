"""Fill the landing zone with days of a believable site: `millrace simulate --days 7 --scale 1 --seed 7`.

`--append` adds the days after those that are there; `--policy published` shows Millrace's own lists to some users.
"""

import logging
import shutil
from collections import Counter
from datetime import date, timedelta
from pathlib import Path

from conf import Config, Paths, UserError
from etl.simulator import business, events, images, traffic, weblog
from etl.simulator.published import PublishedLists, PublishedPolicy, read_lists
from etl.simulator.settings import SimulatorSettings
from etl.simulator.truth import read_world, write_world
from etl.simulator.world import World

log = logging.getLogger(__name__)

DAY = timedelta(days=1)
STAGED = "simulated.new"  # folder of the home: days that are being appended


def run(
    config: Config, *, days: int, scale: float, seed: int, policy: PublishedPolicy | None = None
) -> dict[str, object]:
    """Generate a site and write its landing zone, truth and business database, in place of an earlier simulation.

    Args:
        config: `simulator.*` gives the sizes at scale 1 and the first day.
        days: number of days.
        scale: 1 is some 200,000 impressions in 7 days.
        seed: the same arguments and seed give the same bytes.
        policy: shows published lists of earlier days; only the site's own without.

    Returns:
        First and last day, users, items, and counts of what was written; with a policy, `lists_of`: the promotion whose
        lists the last day shows, or None.

    Raises:
        UserError: if the landing zone holds data that no simulation wrote.
    """
    paths, settings = config.get(Paths), config.get(SimulatorSettings)
    world = World(settings, scale, seed)
    _clear(paths)
    write_world(world, paths.truth)
    counts = _write_days(world, paths, paths, [settings.start + n * DAY for n in range(days)], policy)
    images.write_covers(world, paths.landing("images", settings.start))
    business.fill_database(world, paths.business)
    return counts


def append(config: Config, *, days: int, policy: PublishedPolicy | None = None) -> dict[str, object]:
    """Add the days after the last one to a generated site; what is there stays as it is.

    The days are written aside and then moved in, their truth last. A kill while they are moved leaves files of a day
    without its truth, which the next call replaces.

    Args:
        config: where the home is; sizes, scale and seed are those of the site.
        days: number of days.
        policy: as in `run`. The same lists and days before give the same bytes.

    Returns:
        As `run` does, of these days.

    Raises:
        UserError: no simulation is there, or the lists are of another site.
    """
    paths = config.get(Paths)
    present = sorted(paths.truth.glob("dt=*"))
    if not present:
        raise UserError(f"{paths.root} has no simulated days to go on from: run `millrace simulate` without --append")
    world = read_world(paths.truth)
    first = date.fromisoformat(present[-1].name.removeprefix("dt=")) + DAY
    new_days = [first + n * DAY for n in range(days)]
    staged = paths.model_copy(update={"home": paths.root / STAGED})
    shutil.rmtree(staged.root, ignore_errors=True)  # of a simulation that was killed
    try:
        counts = _write_days(world, paths, staged, new_days, policy)
        _move_in(staged, paths, new_days)
    finally:
        shutil.rmtree(staged.root, ignore_errors=True)
    return counts


def _move_in(staged: Paths, paths: Paths, days: list[date]) -> None:
    for day in days:
        # A kill here may have left files that there are none of by other lists; the rest is written over.
        exposures = paths.landing("served", day).glob(f"{events.EXPOSURES}-*.jsonl")
        late = paths.landing("events", day + DAY).glob(f"late-{day}-*.jsonl")
        for old in (*exposures, *late):
            old.unlink()
    landed = staged.root / "landing"
    for source in sorted(path for path in landed.rglob("*") if path.is_file()):
        target = paths.root / source.relative_to(staged.root)
        target.parent.mkdir(parents=True, exist_ok=True)
        source.replace(target)
    for folder in sorted(staged.truth.glob("dt=*")):
        folder.rename(paths.truth / folder.name)


def _clear(paths: Paths) -> None:
    """Remove an earlier simulation. A landing zone without the truth beside it may hold somebody's only logs."""
    landing, truth = paths.root / "landing", paths.truth
    if landing.exists() and not truth.exists():
        raise UserError(f"{landing} holds data that no simulation wrote: choose another MILLRACE_HOME or move it away")
    for folder in (landing, truth):
        shutil.rmtree(folder, ignore_errors=True)
    truth.mkdir(parents=True)


def _write_days(
    world: World, paths: Paths, target: Paths, days: list[date], policy: PublishedPolicy | None
) -> dict[str, object]:
    """Write days to `target`; the published lists are those of `paths`."""
    totals = Counter(dict.fromkeys(("impressions", "clicks", "late", "log_lines", "texts"), 0))
    for day in days:
        lists = None if policy is None else _lists_of(world, paths.runs, day, policy)
        totals.update(_write_day(world, target, day, lists))
        log.info("simulated %s", day)
    shown = {} if policy is None else {"lists_of": str(lists.day) if lists else None}
    return {
        "first_day": str(days[0]),
        "last_day": str(days[-1]),
        "users": world.num_users,
        "items": world.num_items,
        **totals,
        **shown,
    }


def _lists_of(world: World, runs: Path, day: date, policy: PublishedPolicy) -> PublishedLists | None:
    lists = read_lists(world, runs, day, policy, traffic.LIST_LENGTH)
    if lists is None:
        log.warning("no lists were published before %s: the site shows its own to everybody", day)
    else:
        log.info("%s: lists of %s for %.0f %% of the users", day, lists.day, 100 * lists.is_assigned.mean())
    return lists


def _write_day(world: World, paths: Paths, day: date, lists: PublishedLists | None) -> Counter[str]:
    day_index = (day - world.settings.start).days
    # Late events land in the next day's folder, as they would from a real log shipper.
    tomorrow = paths.landing("events", day + DAY)
    counts = Counter(texts=events.write_texts(world, day, day_index, paths.landing("texts", day)))
    for block in traffic.request_blocks(world, day_index, lists):
        counts.update(events.write_block(world, block, day, day_index, paths.landing("events", day), tomorrow))
        log_lines = weblog.write_block(world, block, day, day_index, paths.landing("weblog", day))
        counts.update(log_lines=log_lines)
        if lists is not None:
            events.write_exposures(block, day, paths.landing("served", day))
        events.write_truth(block, day, paths.truth / f"dt={day.isoformat()}")
    return counts
