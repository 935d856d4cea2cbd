"""What a worker holds: the snapshot that answers, recent events, the journal and the served log. It knows no HTTP."""

import logging
import os
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from conf import Config, Paths, UserError
from conf.clock import day_start
from conf.runs import PROMOTED
from recsys.serve import engine
from recsys.serve.budget import Budget, Costs
from recsys.serve.events.committer import Committer
from recsys.serve.events.journal import Reader, Writer, open_folder, segments
from recsys.serve.events.landing import journal_folder, landed_events, parse_line, served_folder
from recsys.serve.requests import RankRequest, RecommendRequest
from recsys.serve.served_log import ServedLog
from recsys.serve.settings import ServingSettings
from recsys.serve.snapshot import Snapshot, load_snapshot, published

log = logging.getLogger(__name__)

WARM_UP = 30  # requests of each kind before a snapshot answers
WARM_UP_ITEMS = 100


class LiveSnapshot:
    """A snapshot and its reader of the journal, which belong together: recent events are those after its day."""

    def __init__(self, snapshot: Snapshot, config: Config) -> None:
        self.snapshot = snapshot
        folder = journal_folder(config)
        # Opened before the landed files are listed: an event that lands meanwhile comes twice, and counts once.
        self._reader = Reader(folder, segments(folder)[0])
        for event in landed_events(config, snapshot.publication.day, snapshot.state.zone):
            snapshot.state.recent.add(event)
        self.catch_up()

    def catch_up(self) -> None:
        """Take the events that any worker has accepted since the last call."""
        for line in self._reader.poll():
            event = parse_line(line)
            if event is not None:
                self.snapshot.state.recent.add(event)


class Service:
    """One worker's state. Its parent creates it, and each worker inherits a copy by fork."""

    def __init__(self, config: Config) -> None:
        """Load what is promoted.

        Raises:
            UserError: nothing is promoted, or what is promoted is gone or damaged.
        """
        self.config, self.settings = config, config.get(ServingSettings)
        open_folder(journal_folder(config))
        self.costs = Costs()
        self.live = self._load(published(config).key)
        self.committer: Committer | None = None
        self.served_log: ServedLog | None = None
        self.failed_key = ""  # of a publication that could not be loaded: not tried again

    @property
    def snapshot(self) -> Snapshot:
        """What answers now; a request takes it once, and keeps it to its end."""
        return self.live.snapshot

    def start(self) -> None:
        """Open what a process can't inherit: files that are written to, and threads."""
        self.committer = Committer(Writer(journal_folder(self.config)))
        if self.settings.log_served:
            self.served_log = ServedLog(served_folder(self.config), f"{self.settings.instance}-{os.getpid()}")

    def stop(self) -> None:
        """Write what is left of the served log."""
        if self.served_log is not None:
            self.served_log.close()

    def take_up(self) -> bool | None:
        """Load what is promoted now, if it is another publication; requests go on meanwhile.

        Returns:
            None when nothing has changed, whether it could be loaded otherwise; the last snapshot stays if not.
        """
        try:
            publication = published(self.config)
            if publication.key in (self.snapshot.publication.key, self.failed_key):
                return None
        except UserError as error:
            log.error("%s; %s goes on", error, self.snapshot.publication.key)
            return False
        try:
            # A single assignment: a request sees the old snapshot or the new one.
            self.live = self._load(publication.key)
        except (UserError, OSError) as error:
            self.failed_key = publication.key
            log.error("%s; %s goes on", error, self.snapshot.publication.key)
            return False
        log.info("%s serves %s", os.getpid(), publication.key)
        return True

    def model_age_s(self) -> float:
        """Seconds since the end of the day that models and lists are of."""
        state = self.snapshot.state
        return (datetime.now(UTC) - day_start(state.day + timedelta(days=1), state.zone)).total_seconds()

    def _load(self, key: str) -> LiveSnapshot:
        publication = published(self.config)
        started = time.monotonic()
        live = LiveSnapshot(load_snapshot(self.config, publication), self.config)
        self._warm_up(live.snapshot, Costs())  # compiles code, which no later request waits for
        self._warm_up(live.snapshot, self.costs)
        log.info("loaded %s in %.1f s", key, time.monotonic() - started)
        return live

    def _warm_up(self, snapshot: Snapshot, costs: Costs) -> None:
        """Answer requests: code is compiled, pages are read, and the costs of the steps are learned."""
        state, at = snapshot.state, datetime.now(UTC)
        items = [state.item_ids[n] for n in range(min(WARM_UP_ITEMS, state.num_items))]
        if not items:
            return
        users = [number * max(len(state.users.hashes) // WARM_UP, 1) for number in range(WARM_UP)]
        for user in users:
            budget = Budget(60_000, costs, time.perf_counter())
            user_id = state.user_id(user)
            engine.rank(snapshot, RankRequest(user_id, items), at, budget)
            request = RecommendRequest(user_id)
            engine.recommend(
                snapshot,
                request,
                at,
                budget,
                length=self.settings.recommend_length,
                exploration=self.settings.exploration,
            )


class PromotionWatch:
    """Tells when to look at promotions again: by the folder's time of change, at no cost."""

    def __init__(self, config: Config) -> None:
        self._folder = config.get(Paths).runs / PROMOTED
        self._stamp = self._look()

    def has_changed(self) -> bool:
        """Whether a file of the folder was replaced since the last call."""
        stamp = self._look()
        changed, self._stamp = stamp != self._stamp, stamp
        return changed

    def _look(self) -> list[tuple[str, int]]:
        return sorted((path.name, path.stat().st_mtime_ns) for path in _existing(self._folder))


def _existing(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*.json") if path.exists()]


def watch(service: Service, stopped: threading.Event, taken_up: "list[bool]") -> None:
    """Take promotions up until `stopped`, in a thread of a worker; each result is appended to `taken_up`."""
    changes = PromotionWatch(service.config)
    while not stopped.wait(service.settings.poll_s):
        if changes.has_changed():
            result = service.take_up()
            if result is not None:
                taken_up.append(result)
