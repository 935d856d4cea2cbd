"""What happened after a state's day: counts, histories and filters of users and items, in memory."""

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from conf.clock import local_time
from features.catalog import LISTS
from features.counts.counts_before import ClickRates
from recsys.serve.events.event import Event
from recsys.serve.state.arrays import IdIndex, hash_of

SHOWN, CLICKS, EXPECTED = range(3)
LISTED = frozenset(one.action for one in LISTS)


class Act(NamedTuple):
    """What a user did with an item, as lists of last acts read it."""

    at_s: float
    item: int
    """Code."""
    action: str
    value: float


@dataclass
class RecentUser:
    """What one user did."""

    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    """SUMS of the impressions."""
    categories: dict[int, list[float]] = field(default_factory=dict)
    """Code of a topic -> SUMS."""
    last_click: date | None = None
    choices: list[tuple[float, int]] = field(default_factory=list)
    """(seconds since 1970, code of the item) of every click, in the order of arrival."""
    acts: list[Act] = field(default_factory=list)
    """Of the actions that the site has lists of, in the order of arrival."""
    chosen: set[int] = field(default_factory=set)
    """Codes of items that were clicked, liked or bought."""
    bought: set[int] = field(default_factory=set)
    shown: set[int] = field(default_factory=set)
    """Codes of items of the impressions, where lists leave them out."""


class _Newest:
    """The newest entries by a 64-bit hash: from one half of the limit to all of it, and two plain dicts, which take a
    quarter of the memory of an ordered one.
    """

    def __init__(self, limit: int) -> None:
        self._limit = max(limit // 2, 1)
        self._young: dict[int, int] = {}
        self._old: dict[int, int] = {}

    def get(self, key: int) -> int | None:
        return self._young.get(key, self._old.get(key))

    def put(self, key: int, value: int) -> None:
        self._young[key] = value
        if len(self._young) >= self._limit:
            self._old, self._young = self._young, {}


@dataclass(frozen=True)
class Totals:
    """Sums that recent events are added to, mapped so that changes stay in this process."""

    items: NDArray[np.float64]  # (3, items)
    categories: NDArray[np.float64]  # (3, topics + 1)
    num_shown: NDArray[np.float64]  # (1,)
    item_category: NDArray[np.int32]  # (items,)


class Recent:
    """Counts events as `features/counts` does, but at once: those of the same day count, too."""

    def __init__(
        self,
        totals: Totals,
        items: IdIndex,
        rates: ClickRates,
        day: date,
        zone: str,
        remembered: int,
        *,
        remembers_shown: bool = False,
    ) -> None:
        """Start with nothing.

        Args:
            totals: of the days up to `day`.
            items: codes of the items.
            rates: of the training rows.
            day: events up to it are in the totals, and left out here.
            zone: time zone of the days.
            remembered: ids of events, and impressions, that are kept to recognise repeated ones and clicks on them.
            remembers_shown: whether to collect what each user is shown, which takes memory with every impression.
        """
        self._remembers_shown = remembers_shown
        self._totals, self._items, self._rates = totals, items, rates
        self._day, self._zone = day, zone
        self.users: dict[str, RecentUser] = {}
        self.newest_at = 0.0
        self.num_events = 0
        # By hashes: a million ids as texts would take hundreds of megabytes in each worker.
        self._ids = _Newest(remembered)
        self._shown = _Newest(remembered)  # impression -> its user and item
        self._clicked = _Newest(remembered)  # impression -> user and item of the click on it

    def has(self, event_id: str) -> bool:
        """Whether an event was taken already, among the newest."""
        return self._ids.get(hash_of(event_id)) is not None

    def add(self, event: Event) -> bool:
        """Take one event; False for one that was taken before, or whose day is over."""
        moment = event.moment
        key = hash_of(event.event_id)
        if self._ids.get(key) is not None:
            return False
        self._ids.put(key, 0)
        today = local_time(moment, self._zone).date()
        if today <= self._day:
            return False
        self.num_events += 1
        self.newest_at = max(self.newest_at, moment.timestamp())
        user = self.users.get(event.user_id)
        if user is None:
            user = self.users[event.user_id] = RecentUser()
        code = int(self._items.find([event.item_id])[0])
        if event.type == "impression":
            self._add_impression(event, key, user, code)
            return True
        self._add_choice(event, user, code, moment)
        if event.type == "click" and event.impression_id:
            self._add_click(event, user, code, today)
        return True

    def _add_impression(self, event: Event, key: int, user: RecentUser, code: int) -> None:
        pair = hash_of(f"{event.user_id}\x00{event.item_id}")
        self._shown.put(key, pair)
        if self._remembers_shown and code >= 0:
            user.shown.add(code)
        position = event.position
        expected = self._rates.prior if position is None else self._rates.by_position.get(position, self._rates.prior)
        self._count(user, code, SHOWN, 1.0)
        self._count(user, code, EXPECTED, expected)
        self._totals.num_shown[0] += 1
        # A click may arrive before its impression.
        if self._clicked.get(key) == pair:
            self._count_click(user, code, local_time(event.moment, self._zone).date())

    def _add_click(self, event: Event, user: RecentUser, code: int, today: date) -> None:
        """Count the first click on an impression, if it is of the same user and item."""
        impression, pair = hash_of(str(event.impression_id)), hash_of(f"{event.user_id}\x00{event.item_id}")
        shown = self._shown.get(impression)
        if self._clicked.get(impression) is not None or shown not in (None, pair):
            return
        self._clicked.put(impression, pair)
        if shown is not None:
            self._count_click(user, code, today)

    def _add_choice(self, event: Event, user: RecentUser, code: int, moment: datetime) -> None:
        if code < 0:  # of a new item nothing else is known yet
            return
        if event.type in LISTED:
            value = 1.0 if event.value is None else event.value
            user.acts.append(Act(moment.timestamp(), code, event.type, value))
        user.chosen.add(code)
        if event.type == "purchase":
            user.bought.add(code)
        elif event.type == "click":
            user.choices.append((moment.timestamp(), code))

    def _count_click(self, user: RecentUser, code: int, today: date) -> None:
        self._count(user, code, CLICKS, 1.0)
        user.last_click = max(today, user.last_click or today)

    def _count(self, user: RecentUser, code: int, which: int, value: float) -> None:
        user.sums[which] += value
        if code < 0:
            return
        totals = self._totals
        totals.items[which, code] += value
        category = int(totals.item_category[code])
        if category < totals.categories.shape[1] - 1:  # the last is no topic
            totals.categories[which, category] += value
            user.categories.setdefault(category, [0.0, 0.0, 0.0])[which] += value
