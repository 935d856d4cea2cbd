"""Times of what happened: a wrong unit or pattern, the future, a single day."""

import re
from collections.abc import Iterator, Sequence
from datetime import date

import pandas as pd

from conf.site import Rate, Site
from conf.site.declaration import place_of
from conf.site.sources import DAY_BY_NAME
from etl.ingest.files import DATE_IN_NAME
from etl.sources.pandas_values import to_times
from etl.sources.times import EPOCH_UNITS, ISO, TimeFormat
from features.check.part_sample import Finding, PartSample

_FIRST_YEAR = 1990
_MOSTLY = 0.5
_PATTERNS = (
    *EPOCH_UNITS, ISO, "yyyyMMdd", "yyyyMMddHHmmss", "yyMMddHH", "d.M.yyyy H:mm", "d.M.yyyy", "M/d/yyyy H:mm",
    "M/d/yyyy", "d/M/yyyy H:mm", "d/M/yyyy", "M/d/yyyy h:mm:ss a",
)  # fmt: skip


def time_findings(sample: PartSample, today: date) -> Iterator[Finding]:
    """What is wrong with the times of a part.

    Args:
        sample: its rows.
        today: days after it are the future.
    """
    place = place_of(sample.part.source)
    if "at" not in sample.roles:
        return
    texts = sample.frame[sample.roles["at"]]
    if sample.problem:
        yield Finding(place, f"{sample.kind}: {sample.problem}{_fitting(texts, sample, today)}")
    times = sample.times
    if times is None or not texts.notna().any():
        return
    if (wrong := _wrong_format(sample, texts, times, today)) is not None:
        yield Finding(place, wrong)
        return
    end = pd.Timestamp(today, tz="UTC") + pd.Timedelta(days=2)  # clocks and zones differ
    future = times[times >= end]
    if len(future):
        text = (
            f"{sample.kind}: {len(future):,} of {len(times):,} rows are of the future, as {future.max():%Y-%m-%d} "
            f"({sample.where(future.idxmax())}). Correct them: each such day would be a day of the warehouse."
        )
        yield Finding(place, text, is_fault=len(future) > 0.01 * len(times))


def _wrong_format(sample: PartSample, texts: pd.Series, times: pd.Series, today: date) -> str | None:
    """Most values are no times by the declared format, or of years that no data are of."""
    form = sample.time_format
    assert form is not None
    name = sample.roles["at"]
    filled = texts.notna()
    wrong = times[filled].isna()
    # Where the year is right, a text that does not fit is a bad row, which the share of refused rows counts.
    if wrong.mean() > _MOSTLY:
        example = texts[filled][wrong].iloc[0]
        evidence = f'{wrong.sum():,} of {filled.sum():,} values of "{name}" are no such time, as {example!r}'
    elif _are_likely(times.dropna(), today):
        return None
    else:
        evidence = f'"{name}" would run {_range(times)}'
    return f'{sample.kind}: with time_format="{form.pattern}" {evidence}{_fitting(texts, sample, today)}'


def _fitting(texts: pd.Series, sample: PartSample, today: date) -> str:
    """The end of a message: the format that would fit, and what times it gives."""
    for pattern in _PATTERNS:
        form = TimeFormat(pattern, "UTC")
        if sample.time_format is not None and pattern == sample.time_format.pattern:
            continue
        times = to_times(texts, form, sample.dialect.decimal).dropna()
        if len(times) > _MOSTLY * texts.notna().sum() and _are_likely(times, today):
            return f'; "{pattern}" gives {_range(times)}. Write time_format="{pattern}".'
    return ". Write its format: s, ms, us, ns, iso or a pattern such as d.M.yyyy H:mm."


def _are_likely(times: pd.Series, today: date) -> bool:
    """Whether most times are of years that data of users are of, and not of the future."""
    years = times.dt.year
    is_likely = (years >= _FIRST_YEAR) & (times < pd.Timestamp(today, tz="UTC") + pd.Timedelta(days=366))
    return bool(len(times)) and float(is_likely.mean()) > _MOSTLY


def _range(times: pd.Series) -> str:
    return f"{times.min():%Y-%m-%d} to {times.max():%Y-%m-%d}"


def day_findings(
    site: Site, samples: Sequence[PartSample], zone: str, today: date, window_days: int
) -> Iterator[Finding]:
    """Days that are too few: to count before, to test on, or for the windows of rates.

    Args:
        site: the declaration.
        samples: of what happened.
        zone: by whose clock days are counted.
        today: days after it are the future.
        window_days: of a training set.
    """
    days = _days(samples, zone, today)
    if days is None:
        return  # another unit gives other days
    if len(days) == 1:
        cure = "A training set needs --split random or time"
        cure += "; write has_counts=False if the day is no real one." if site.has_counts else "."
        text = f"Site: all rows are of one day ({min(days)}), and nothing can be counted before it. {cure}"
        yield Finding(place_of(site), text, is_fault=False)
    for rate in (feature for feature in site.features if isinstance(feature, Rate)):
        if rate.days is not None and rate.days >= window_days:
            text = f"days={rate.days} is all that a training set reads (features.window_days={window_days})"
            yield Finding(place_of(rate), f'Rate "{rate.feature}": {text}. Leave days out.', is_fault=False)
        elif rate.days is not None and len(days) > 1 and all(sample.is_whole for sample in samples):
            span = (date.fromisoformat(max(days)) - date.fromisoformat(min(days))).days
            if rate.days >= span:
                text = f"days={rate.days} is longer than the data, {min(days)} to {max(days)}"
                yield Finding(place_of(rate), f'Rate "{rate.feature}": {text}. Leave days out.', is_fault=False)


def _days(samples: Sequence[PartSample], zone: str, today: date) -> set[str] | None:
    """The days of all rows, as 2026-01-07; None where their times can't be right."""
    days: set[str] = set()
    for sample in samples:
        times, day = sample.times, sample.part.source.day
        if times is not None and not _are_likely(times.dropna(), today):
            return None
        if times is not None:
            days |= {str(one) for one in times.dropna().dt.tz_convert(zone).dt.date.unique()}
        elif day == DAY_BY_NAME:
            names = (re.search(DATE_IN_NAME, file.name) for file in sample.files)
            days |= {"-".join(match.groups()) for match in names if match is not None}
        elif day is not None:
            days.add(day)
    return days
