"""What a worker serves at one time: the newest publication, and the arms of an experiment beside it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from conf import Config, UserError
from recsys.blend.weights import MERGED
from recsys.serve.events.journal import Reader, segments
from recsys.serve.events.landing import journal_folders, landed_events, parse_line
from recsys.serve.events.redis_stream import StreamReader
from recsys.serve.rankers import export_models
from recsys.serve.settings import ArmSettings, ServingSettings
from recsys.serve.snapshot import Snapshot, load_snapshot, published
from recsys.serve.state.arrays import hash_of
from recsys.serve.state.build import build_state
from recsys.serve.state.publication import Publication

BLEND = "blend"


class LiveSnapshot:
    """A snapshot and its readers of journals, which belong together: recent events are those after its day."""

    def __init__(self, snapshot: Snapshot, config: Config) -> None:
        self.snapshot = snapshot
        self._config, self._settings = config, config.get(ServingSettings)
        self._readers: dict[Path, Reader] = {}
        self._stream = self._open_stream()
        # Opened before the landed files are listed: an event that lands meanwhile comes twice, and counts once.
        self._open_journals()
        for event in landed_events(config, snapshot.publication.day, snapshot.state.zone):
            snapshot.state.recent.add(event)
        self.catch_up()

    def catch_up(self) -> None:
        """Take the events that any worker has accepted since the last call; through two ways they count once."""
        if self._settings.on == "ray" and time.monotonic() >= self._look_at:
            self._open_journals()
        sources: list[Reader | StreamReader] = [*self._readers.values()]
        if self._stream is not None:
            sources.append(self._stream)
        for source in sources:
            for line in source.poll():
                event = parse_line(line)
                if event is not None:
                    self.snapshot.state.recent.add(event)

    @property
    def is_redis_up(self) -> bool | None:
        """Whether other machines' events come; None without `serving.redis`."""
        return self._stream.is_up if self._stream else None

    def _open_stream(self) -> StreamReader | None:
        if self._settings.redis is None:
            return None
        return StreamReader(self._settings, self.snapshot.publication.day, self.snapshot.state.zone)

    def _open_journals(self) -> None:
        """Read the journals of all machines: one that has joined the cluster begins another."""
        self._look_at = time.monotonic() + self._settings.poll_s
        for folder in journal_folders(self._config):
            if folder not in self._readers:
                self._readers[folder] = Reader(folder, segments(folder)[0])


@dataclass(frozen=True)
class Choice:
    """What answers one user."""

    live: LiveSnapshot
    snapshot: Snapshot
    arm: str | None = None


@dataclass(frozen=True)
class Lineup:
    """Never changed: a swap puts another one in its place.

    Attributes:
        keys: of the publications; equal ones are the same.
        main: the newest publication.
        settings: of the experiment.
        arms: by name; none without an experiment.
    """

    keys: list[str]
    main: LiveSnapshot
    settings: ServingSettings
    arms: Mapping[str, Choice]

    def choose(self, user: str) -> Choice:
        """The arm that a user is in, or the newest publication without an experiment."""
        if self.settings.experiment is None:
            return Choice(self.main, self.main.snapshot)
        return self.arms[assign(self.settings.experiment, self.settings.arms, user)]

    def catch_up(self) -> None:
        """Take the events that any worker has accepted since the last call."""
        # Each reader once, though arms share it.
        for live in {id(live): live for live in (self.main, *(arm.live for arm in self.arms.values()))}.values():
            live.catch_up()


def assign(experiment: str, arms: Mapping[str, ArmSettings], user: str) -> str:
    """The arm of a user: the same on every machine, and independent of other experiments'."""
    # The name is in the hash: users of an arm are spread anew over the arms of the next experiment.
    share = hash_of(f"{experiment}\x00{user}") / 2**64 * sum(arm.weight for arm in arms.values())
    for name, arm in arms.items():
        share -= arm.weight
        if share < 0:
            return name
    return name


def lineup_keys(config: Config) -> list[str]:
    """The keys of what is to be served now, by a few small files. Raises UserError as `published` does."""
    return [publication.key for publication in _publications(config).values()]


def build_states(config: Config) -> None:
    """Build the states of what is to be served now, for those who will load it. Raises as `load_lineup` does."""
    for publication in _publications(config).values():
        build_state(config, publication, partial(export_models, publication))


def load_lineup(config: Config) -> Lineup:
    """Load what is to be served now.

    Raises:
        UserError: nothing is promoted, a file is gone or damaged, an arm names a score that there is none of, or there
            are too few of them.
    """
    settings, publications = config.get(ServingSettings), _publications(config)
    if settings.experiment is not None and len(settings.arms) < 2:
        raise UserError(f"serving.experiment={settings.experiment} needs two arms or more (serving.arms)")
    lives: dict[str, LiveSnapshot] = {}
    for publication in publications.values():
        # Arms that differ in the order alone share a publication, its memory and its reader.
        if publication.key not in lives:
            lives[publication.key] = LiveSnapshot(load_snapshot(config, publication), config)
    arms = {}
    for name, arm in _arms(settings).items():
        live = lives[publications[name].key]
        stack = live.snapshot.stack
        # Checked when it is loaded: an arm must not fail at its first request.
        scores = [BLEND, *dict.fromkeys([MERGED, *stack.weights])]
        if arm.order is not None and arm.order not in scores:
            raise UserError(f"serving.arms.{name}.order: unknown score '{arm.order}'; choose from {', '.join(scores)}")
        stack = replace(stack, order=arm.order or stack.order)
        arms[name] = Choice(live, replace(live.snapshot, stack=stack), name)
    main = lives[publications[""].key]
    return Lineup([publication.key for publication in publications.values()], main, settings, arms)


def _publications(config: Config) -> dict[str, Publication]:
    """By name of the arm; under the empty name the newest one."""
    arms = _arms(config.get(ServingSettings))
    return {"": published(config)} | {name: published(config, arm.promoted) for name, arm in arms.items()}


def _arms(settings: ServingSettings) -> Mapping[str, ArmSettings]:
    return settings.arms if settings.experiment is not None else {}
