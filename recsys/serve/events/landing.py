"""Accepted events and served lists on their way to the landing zone, where `etl events` finds them.

A segment of the journal becomes a file in each hour's folder that it has events of. Names follow from the segment, so
that a landing which is killed and repeated replaces its own files.
"""

import logging
import os
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import orjson

from conf import Config, Paths
from conf.atomic import write_atomically
from conf.clock import local_time
from etl.collect.collector import json_hour
from etl.sources.lines import landed_files
from recsys.serve.events.event import Event
from recsys.serve.events.journal import ID, LANDED, begin_segment, locked, segment_path, segments
from recsys.serve.settings import ServingSettings

log = logging.getLogger(__name__)

PREFIX = "serve-"  # not `events-`: a collector removes files of its own name that it doesn't know
MACHINES, JOURNAL, SERVED = "machines", "journal", "served"  # folders
KEPT_SEGMENTS = 2  # landed ones that a slow reader may still have to open
REQUEST_ID = slice(15, 35)  # of a served line, which begins {"request_id":"
HOUR = timedelta(hours=1)
_decoder = msgspec.json.Decoder(Event)


def own_folder(config: Config) -> Path:
    """What this machine's workers write: under Ray a folder of its own, as no lock holds on every shared disk."""
    folder, settings = config.get(Paths).root / "serving", config.get(ServingSettings)
    return folder / MACHINES / settings.instance if settings.on == "ray" else folder


def of_each_machine(config: Config) -> list[Config]:
    """`config` as it is for each machine of a Ray cluster that has written something."""
    folders = (config.get(Paths).root / "serving" / MACHINES).glob(f"*/{JOURNAL}")
    names = sorted(folder.parent.name for folder in folders)
    return [config.with_values({"serving.on": "ray", "serving.instance": name}) for name in names]


def journal_folder(config: Config) -> Path:
    """Folder of the journal that this machine's workers append to."""
    return own_folder(config) / JOURNAL


def journal_folders(config: Config) -> list[Path]:
    """Folders of all journals below the home, those of other machines among them."""
    folders = [config.get(Paths).root / "serving" / JOURNAL, *map(journal_folder, of_each_machine(config))]
    return [folder for folder in folders if segments(folder)]


def served_folder(config: Config) -> Path:
    """Folder of the served lists of the hours that are not over."""
    return own_folder(config) / SERVED


def parse_line(line: bytes) -> Event | None:
    """The event of a line of the journal; None for what a killed writer has left."""
    try:
        return _decoder.decode(line)
    except msgspec.MsgspecError:
        return None


def land(config: Config, *, everything: bool = False) -> int:
    """Land served lists and events as `land_served` and `roll` do; a disk that fails leaves them where they are.

    Returns:
        Number of events that landed.
    """
    try:
        land_served(config, everything=everything)
        return roll(config, everything=everything)
    except OSError as error:  # a full disk
        log.error("events stay in the journal: %s", error)
        return 0


def roll(config: Config, *, everything: bool = False) -> int:
    """Land the segments of the journal that are old or large enough, and begin a new one.

    Args:
        config: `serving.*`, and the landing zone.
        everything: whatever the age, as before a stop.

    Returns:
        Number of events that landed.
    """
    settings, folder = config.get(ServingSettings), journal_folder(config)
    newest = segments(folder)[-1]
    with locked(folder):
        status = segment_path(folder, newest).stat()
        is_old = time.time() - _begun_at(folder, newest) >= settings.roll_s
        if status.st_size and (everything or is_old or status.st_size >= settings.roll_bytes):
            begin_segment(folder, newest + 1)
    landed = sum(_land(config, folder, number) for number in segments(folder)[:-1])
    # After all have landed: a kill before this leaves files that the next call removes.
    for path in sorted(folder.glob(f"*{LANDED}"))[:-KEPT_SEGMENTS]:
        path.unlink()
    return landed


def _begun_at(folder: Path, number: int) -> float:
    """When the segment before was finished, which is when this one began."""
    before = segment_path(folder, number - 1).with_suffix(LANDED)
    return before.stat().st_mtime if before.exists() else (folder / ID).stat().st_mtime


def _land(config: Config, folder: Path, number: int) -> int:
    path = segment_path(folder, number)
    events: dict[str, Event] = {}
    for line in path.read_bytes().split(b"\n"):
        event = parse_line(line) if line else None
        if event is not None:
            events.setdefault(event.event_id, event)  # a sender that got no answer sends again
    logged = _served_features(config, events.values())
    by_hour: dict[str, list[bytes]] = {}
    for event in events.values():
        features = event.features or logged.get(event.event_id)
        line = msgspec.json.encode(msgspec.structs.replace(event, features=features))
        by_hour.setdefault(json_hour(line) or "", []).append(line)
    instance = config.get(ServingSettings).instance
    name = f"{PREFIX}{instance}-{(folder / ID).read_text()}-{number:08d}.log"
    for hour, lines in by_hour.items():
        target = config.get(Paths).root / "landing" / "events" / hour / f"host={instance}" / name
        write_atomically(target, b"\n".join(lines) + b"\n")
    os.utime(path)
    path.rename(path.with_suffix(LANDED))
    if events:
        log.info("%d events landed, %d of them with the features of their served list", len(events), len(logged))
    return len(events)


def _served_features(config: Config, events: Iterable[Event]) -> dict[str, dict[str, float]]:
    """Event id of an impression -> the features that it was ranked by, where its id is one that the server gave."""
    wanted: dict[str, list[Event]] = {}
    for event in events:
        request_id, _, position = event.event_id.rpartition("-")
        if event.type == "impression" and event.features is None and position.isdigit():
            wanted.setdefault(request_id, []).append(event)
    features: dict[str, dict[str, float]] = {}
    for path in _recent_served(config) if wanted else ():
        with path.open("rb") as lines:
            for line in lines:
                shown = wanted.get(line[REQUEST_ID].decode(errors="replace"))
                if shown:
                    features |= _features_of(orjson.loads(line), shown)
    return features


def _recent_served(config: Config) -> list[Path]:
    """Files of served lists of this hour and the one before, landed or not."""
    now, zone = datetime.now(UTC), config.get(Paths).root / "landing" / "served"
    # Under Ray any machine may have served the list whose impressions this one was sent.
    machines = of_each_machine(config) if config.get(ServingSettings).on == "ray" else [config]
    hosts = [f"host={machine.get(ServingSettings).instance}" for machine in machines]
    hours = [zone / f"{now - age:dt=%Y-%m-%d/hour=%H}" for age in (HOUR, timedelta(0))]
    folders = [*(hour / host for hour in hours for host in hosts), *map(served_folder, machines)]
    return [path for folder in folders for path in sorted(folder.glob("*.log"))]


def _features_of(served: Mapping[str, Any], shown: Iterable[Event]) -> dict[str, dict[str, float]]:
    columns, found = served.get("features") or {}, {}
    for event in shown:
        position = int(event.event_id.rpartition("-")[2]) - 1
        is_same = position < len(served["items"]) and served["items"][position] == event.item_id
        if is_same and served["user_id"] == event.user_id:
            values = {name: column[position] for name, column in columns.items()}
            found[event.event_id] = {name: float(value) for name, value in values.items() if value is not None}
    return {event_id: values for event_id, values in found.items() if values}


def land_served(config: Config, *, everything: bool = False) -> None:
    """Move files of served lists to the landing zone when their hour is over (or whatever the hour)."""
    current = f"{datetime.now(UTC):%Y-%m-%dT%H}"
    instance = config.get(ServingSettings).instance
    for path in sorted(served_folder(config).glob("*.log")):
        hour = path.name[:13]
        if hour != current or everything:
            folder = config.get(Paths).root / "landing" / "served" / f"dt={hour[:10]}" / f"hour={hour[11:]}"
            target = folder / f"host={instance}" / f"{PREFIX}{path.name}"
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)


def landed_events(config: Config, after: date, zone: str) -> Iterable[Event]:
    """Events of this server that have landed, of days after `after` by the clocks of `zone`, oldest folder first."""
    root = config.get(Paths).root / "landing" / "events"
    for folder in sorted(root.glob("dt=*")):
        # A folder has the events of an hour as it was written, in any zone: a day more than needed.
        if folder.name.removeprefix("dt=") < after.isoformat():
            continue
        for path in landed_files(folder):
            if Path(path).name.startswith(PREFIX):
                for line in Path(path).read_bytes().split(b"\n"):
                    event = parse_line(line) if line else None
                    if event is not None and local_time(event.moment, zone).date() > after:
                        yield event
