"""What a worker holds: publications that answer, recent events, the journal, the served log. It knows no HTTP."""

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
from recsys.serve.events.journal import Writer, open_folder
from recsys.serve.events.landing import journal_folder, served_folder
from recsys.serve.events.redis_stream import Publisher
from recsys.serve.lineup import Lineup, lineup_keys, load_lineup
from recsys.serve.requests import RankRequest, RecommendRequest
from recsys.serve.served_log import ServedLog
from recsys.serve.settings import ServingSettings
from recsys.serve.snapshot import Snapshot
from recsys.serve.state.build import is_built

log = logging.getLogger(__name__)

WARM_UP = 30  # requests of each kind before a snapshot answers
WARM_UP_AGAIN = 5  # of a later one: the code is compiled, and other requests wait meanwhile
WARM_UP_ITEMS = 100
WAIT_S = 30.0  # for the parent to build a state, which would take the time of a worker's requests


class Service:
    """One worker's state. Its parent creates it, and each worker inherits a copy by fork."""

    def __init__(self, config: Config) -> None:
        """Load what is promoted.

        Raises:
            UserError: nothing is promoted, or what is promoted is gone or damaged.
        """
        self.config, self.settings = config, config.get(ServingSettings)
        # Before the lineup, which reads it.
        open_folder(journal_folder(config))
        self.costs = Costs()
        self.lineup = self._load(WARM_UP)
        self.committer: Committer | None = None  # opened in `start`, after the fork
        self.served_log: ServedLog | None = None
        self.publisher: Publisher | None = None

    @property
    def snapshot(self) -> Snapshot:
        """The newest publication."""
        return self.lineup.main.snapshot

    def start(self) -> None:
        """Open what a process can't inherit: files that are written to, and threads."""
        if self.settings.redis is not None:
            self.publisher = Publisher(self.settings)
        publish = self.publisher.add if self.publisher else None
        self.committer = Committer(Writer(journal_folder(self.config)), publish)
        if self.settings.log_served:
            # A file a process: two that append to one could mix their lines.
            name, most = f"{self.settings.instance}-{os.getpid()}", self.settings.logged_items
            self.served_log = ServedLog(served_folder(self.config), name, most)

    def stop(self) -> None:
        """Write what is left of the served log, and send what is left of the events."""
        if self.publisher is not None:
            self.publisher.close()
        if self.served_log is not None:
            self.served_log.close()

    def take_up(self) -> bool | None:
        """Load what is promoted now, if it is something else; requests go on meanwhile.

        Returns:
            None when nothing has changed, whether it could be loaded otherwise; what was served stays if not.
        """
        try:
            if lineup_keys(self.config) == self.lineup.keys:
                return None
            # A single assignment: a request sees the old lineup or the new one.
            self.lineup = self._load(WARM_UP_AGAIN)
        except (UserError, OSError) as error:
            log.error("%s; %s goes on", error, self.snapshot.publication.key)
            return False
        log.info("process %d serves %s", os.getpid(), self.snapshot.publication.key)
        return True

    def model_age_s(self) -> float:
        """Seconds since the end of the day that models and lists are of."""
        state = self.snapshot.state
        return (datetime.now(UTC) - day_start(state.day + timedelta(days=1), state.zone)).total_seconds()

    def is_redis_up(self) -> bool | None:
        """Whether events come from and go to other machines; None when they are not meant to."""
        reads = self.lineup.main.is_redis_up
        return None if reads is None or self.publisher is None else reads and self.publisher.link.is_up

    def is_built(self) -> bool:
        """Whether the states of what is to be served now are there, or can't be told."""
        try:
            return all(is_built(self.config, key) for key in lineup_keys(self.config))
        except (UserError, OSError):
            return True

    def _load(self, requests: int) -> Lineup:
        started = time.monotonic()
        lineup = load_lineup(self.config)
        snapshots = [lineup.main.snapshot, *(arm.snapshot for arm in lineup.arms.values())]
        for snapshot in snapshots:
            self._warm_up(snapshot, Costs(), requests)  # compiles code, which no later request waits for
            self._warm_up(snapshot, self.costs, requests)
        log.info("loaded %s in %.1f s", lineup.main.snapshot.publication.key, time.monotonic() - started)
        return lineup

    def _warm_up(self, snapshot: Snapshot, costs: Costs, requests: int) -> None:
        """Answer requests: code is compiled, pages are read, and the costs of the steps are learned."""
        state, at = snapshot.state, datetime.now(UTC)
        items = [state.item_ids[n] for n in range(min(WARM_UP_ITEMS, state.num_items))]
        num_users = len(state.users.hashes)
        for number in range(requests if items and num_users else 0):
            budget = Budget(60_000, costs, time.perf_counter())
            # Spread over all users, whose histories differ in length.
            user = state.user_id(number * num_users // requests)
            engine.rank(snapshot, RankRequest(user, items), at, budget)
            length = self.settings.recommend_length
            engine.recommend(snapshot, RecommendRequest(user), at, budget, length=length, exploration=0.0)


class PromotionWatch:
    """Tells when to look at promotions again: by the folder's times of change, at no cost."""

    def __init__(self, config: Config) -> None:
        self._folder = config.get(Paths).runs / PROMOTED
        self._stamp = _stamp_of(self._folder)

    def has_changed(self) -> bool:
        """Whether a file of the folder was replaced since the last call."""
        stamp = _stamp_of(self._folder)
        changed, self._stamp = stamp != self._stamp, stamp
        return changed


def _stamp_of(folder: Path) -> list[tuple[str, int]]:
    with os.scandir(folder) as entries:
        # Names, too: a file that was removed changes no other one's time.
        return sorted((entry.name, entry.stat().st_mtime_ns) for entry in entries if entry.name.endswith(".json"))


def watch(service: Service, stopped: threading.Event, results: list[bool]) -> None:
    """Take promotions up until `stopped`, in a thread of a worker; what came of each is appended to `results`."""
    changes = PromotionWatch(service.config)
    is_due = True  # the worker may have been forked while its parent was about to take another publication up
    while not stopped.wait(0.0 if is_due else service.settings.poll_s):
        if is_due:
            deadline = time.monotonic() + WAIT_S
            while not service.is_built() and time.monotonic() < deadline and not stopped.wait(0.1):
                pass
            if (result := service.take_up()) is not None:
                results.append(result)
        is_due = changes.has_changed()
