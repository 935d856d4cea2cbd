"""Sums of impressions by key over the days before a day, of keys that are few enough for the driver."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

SUMS = ("shown", "clicks", "expected")
"""Impressions, clicks, and clicks that the positions let expect."""
NEVER = np.iinfo(np.int32).min  # day of the last click of a user without one

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class DaySums:
    """SUMS of each key over the days before a day."""

    keys: tuple[str, ...]
    """In the order of SQL, that of their code points."""
    days: Ints
    """(days,) with any impression, ascending, since 1970."""
    before: Floats
    """(days + 1, 3, keys) sums before each of the days, and before any later one."""
    all_shown: Floats
    """(days + 1,) impressions with and without a key before these days."""

    @classmethod
    def of(cls, keys: Sequence[str | None], days: Ints, sums: Floats) -> "DaySums":
        """From sums (3, rows) of keys on single days; a key of None is none."""
        names = tuple(sorted({key for key in keys if key is not None}))
        distinct_days, of_row = np.unique(days, return_inverse=True)
        code = {name: number for number, name in enumerate(names)}
        codes = np.array([-1 if key is None else code[key] for key in keys], np.int64)
        daily, all_daily = np.zeros((len(distinct_days), 3, len(names))), np.zeros(len(distinct_days))
        np.add.at(all_daily, of_row, sums[0])
        has_key = codes >= 0
        for number in range(3):
            np.add.at(daily[:, number], (of_row[has_key], codes[has_key]), sums[number][has_key])
        before = np.concatenate([np.zeros((1, 3, len(names))), daily.cumsum(axis=0)])
        return cls(names, distinct_days, before, np.concatenate([np.zeros(1), all_daily.cumsum()]))

    @property
    def last_day(self) -> int:
        """The day from which on nothing changes; 0 without any impression."""
        return int(self.days[-1]) + 1 if len(self.days) else 0

    def sums(self, day: int) -> Floats:
        """(3, keys) sums before `day`."""
        return np.asarray(self.before[int(np.searchsorted(self.days, day))])

    def shares(self, day: int) -> Floats:
        """(keys,) share of the impressions before `day` that each key has; NaN for one that was never shown."""
        number = int(np.searchsorted(self.days, day))
        shown = self.before[number, 0]
        return np.where(shown > 0, shown, np.nan) / max(float(self.all_shown[number]), 1.0)

    def table(self) -> pa.Table:
        """Columns key, day, SUMS and share: each key before each day up to the last one, where it was shown."""
        span = np.arange(self.days[0] + 1, self.last_day + 1) if len(self.days) else self.days
        number = np.searchsorted(self.days, span)
        row, key = np.nonzero(self.before[number, 0] > 0)
        sums = self.before[number[row], :, key].T  # (3, rows)
        columns = {
            "key": pa.array(self.keys, pa.string()).take(pa.array(key)),
            "day": as_dates(span[row]),
            **dict(zip(SUMS, sum_arrays(sums), strict=True)),
            "share": pa.array(sums[0] / self.all_shown[number[row]]),
        }
        return pa.table(columns)


def as_dates(days: NDArray[np.integer], is_null: NDArray[np.bool_] | None = None) -> pa.Array:
    """Days since 1970 as dates."""
    return pa.array(days.astype(np.int32), mask=is_null).cast(pa.date32())


def sum_arrays(sums: Floats, is_null: NDArray[np.bool_] | None = None) -> list[pa.Array]:
    """SUMS (3, rows) as columns."""
    shown, clicks, expected = sums
    counts = [pa.array(values.astype(np.int64), mask=is_null) for values in (shown, clicks)]
    return [*counts, pa.array(expected, mask=is_null)]
