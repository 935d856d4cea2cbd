"""Which days a load of events touches, and which landing folders it reads for them.

A day's tables follow from its own events and, for clicks after midnight and events sent twice, those of the days
beside it. A folder mostly has its own day's events, and the last ones of the day before; which other days it has is in
ops_event_day from when it was loaded.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, timedelta

from conf import Config, Paths
from etl.sources.lines import landed_files
from etl.tables import dwd, ops
from etl.warehouse.store import Warehouse

DAY = timedelta(days=1)

# Landing folder's day -> the other days that it has events of, with how many.
EventDays = Mapping[date, Mapping[date, int]]


class LoadPlan:
    """The days to write and the folders to read, for the folders of some days.

    Args:
        warehouse: which days are loaded, and what earlier loads saw in the folders.
        config: where the landing zone is.
        days: the folders to load.
        late_days: how many days after its own an event may be in a folder.
    """

    def __init__(self, warehouse: Warehouse, config: Config, days: Sequence[date], late_days: int) -> None:
        self.days = list(days)
        self._paths = config.get(Paths)
        self._files: dict[date, list[str]] = {}
        loaded = warehouse.partitions(dwd.impression)
        self._loaded = {date.fromisoformat(value) for value in loaded}
        # Two days wider than a late event reaches: the neighbours of its day are made again, too.
        reach = timedelta(days=late_days + 2)
        self._span = [days[0] - reach + n * DAY for n in range((days[-1] - days[0] + 2 * reach).days + 1)]
        self._seen: dict[date, dict[date, int]] = {}
        for row in warehouse.read(ops.event_day, self._span).collect():
            others = self._seen.setdefault(date.fromisoformat(row["dt"]), {})
            others[date.fromisoformat(row["event_day"])] = row["events"]
        self.written: set[date] = set()
        self.extend({}, [])

    def extend(self, event_days: EventDays, clicked_days: Iterable[date]) -> bool:
        """Add the days that follow from what the folders hold; returns whether there was any.

        Args:
            event_days: what the folders of `days` have of other days.
            clicked_days: days before those, of whose impressions late events are clicks.
        """
        before = set(self.written)
        own, targets = set(self.days), set(self.days)
        for folder in self.days:
            targets.update(self._seen.get(folder, {}), event_days.get(folder, {}))
        # Their refused lines: "its day has not landed" is true no more.
        targets.update(folder for folder, others in self._seen.items() if own & set(others))
        for day in targets:
            if day not in own and not (self.is_landed(day) and (day in self._loaded or day + DAY in own)):
                continue
            self.written.add(day)
            # Clicks of this day may be on impressions of the day before.
            is_late = day not in own and day + DAY not in own
            if self.is_landed(day - DAY) and (day in own or (is_late and day - DAY in self._loaded)):
                self.written.add(day - DAY)
            # Events of the next day may be this day's sent again, and its clicks may be on this day's impressions.
            if self.is_landed(day + DAY) and day + DAY in self._loaded:
                self.written.add(day + DAY)
        self.written.update(day for day in clicked_days if self.is_landed(day) and day in self._loaded)
        return self.written != before

    def is_landed(self, day: date) -> bool:
        """Whether the day can be made from the landing zone: without all its folders it stays as it is."""
        if day in self.days:  # they are made of what is there: that is what was asked for
            return True
        # A day without all its folders would lose events that its tables have now.
        return bool(self._landed_files(day)) and not self.missing_folders(day)

    def missing_folders(self, day: date) -> list[date]:
        """Other folders that had events of the day when they were loaded, and have no files any more."""
        return [folder for folder, others in self._seen.items() if others.get(day) and not self._landed_files(folder)]

    def is_news(self, event_days: EventDays) -> bool:
        """Whether ops_event_day says something else of the folders of `days`."""
        return any(self._seen.get(folder, {}) != event_days.get(folder, {}) for folder in self.days)

    def landed_days(self) -> list[date]:
        """All days with a folder whose events may be in the folders that are read."""
        return [day for day in self._span if self.is_landed(day)]

    def files(self) -> list[str]:
        """The files of the days written, of the days beside them, and of folders with late events of those."""
        near = {day + n * DAY for day in self.written for n in (-1, 0, 1)}
        folders = near | {folder for folder, others in self._seen.items() if near & set(others)}
        return [file for day in sorted(folders) for file in self._landed_files(day)]

    def near(self) -> list[date]:
        """The days written and the days beside them: all whose events are looked at."""
        return sorted({day + n * DAY for day in self.written for n in (-1, 0, 1)})

    def _landed_files(self, day: date) -> list[str]:
        if day not in self._files:
            self._files[day] = landed_files(self._paths.landing("events", day))
        return self._files[day]


def isoformat(days: Collection[date]) -> list[str]:
    """The days as their partitions are named, in order."""
    return [day.isoformat() for day in sorted(days)]
