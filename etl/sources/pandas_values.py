"""Texts of a sample -> ids, numbers and times, by the rules of `values` and `times`, on pandas."""

import re
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from etl.sources.lines import NUMBER
from etl.sources.texts import WHITESPACE, number_of
from etl.sources.times import END_S, EPOCH_UNITS, ISO, ISO_PATTERN, WITHOUT_SECONDS, ZONED, TimeFormat
from etl.sources.values import NO_ID

# Letters of Spark's patterns -> Python's.
_DIRECTIVES: Mapping[str, str] = {
    "yyyy": "%Y", "yy": "%y", "MMM": "%b", "MM": "%m", "M": "%m", "dd": "%d", "d": "%d", "HH": "%H", "H": "%H",
    "hh": "%I", "h": "%I", "mm": "%M", "m": "%M", "ss": "%S", "s": "%S", "a": "%p",
}  # fmt: skip
_NO_ID, _MAX_NO_ID = re.compile(NO_ID), len("undefined")
_PATTERN_PART = re.compile(r"'([^']*)'|\[\.S+\]|([A-Za-z])\2*|(.)", re.DOTALL)


def trimmed(texts: pd.Series) -> pd.Series:
    """The texts without blanks around them; None where nothing is left."""
    return _by_distinct(texts, lambda text: text.strip(WHITESPACE) or None)


def to_ids(texts: pd.Series) -> pd.Series:
    """Ids; None where the text is empty or stands for no value, as `NULL`, `\\N` or `nan`."""
    return _by_distinct(texts, _to_id)


def to_numbers(texts: pd.Series, decimal: str = ".") -> pd.Series:
    """Finite numbers as float64, NaN where the text is none."""
    return _by_distinct(texts, lambda text: number_of(text, decimal)).astype("float64")


def to_times(texts: pd.Series, time_format: TimeFormat, decimal: str = ".") -> pd.Series:
    """Times as UTC timestamps, NaT where the text does not fit the format or is not of 1970 to 2099."""
    codes, distinct = pd.factorize(texts)
    parsed = _distinct_times(pd.Series(distinct, dtype=object), time_format, decimal)
    parsed = pd.concat([parsed, pd.Series([pd.NaT], dtype=parsed.dtype)], ignore_index=True)
    times = parsed.take(codes)  # a missing text has code -1: the last one
    times.index = texts.index
    return times


def _by_distinct(texts: pd.Series, convert: Callable[[str], object]) -> pd.Series:
    """Convert each distinct text once; missing ones stay None."""
    codes, distinct = pd.factorize(texts)
    # A missing text has code -1: the last one.
    values = np.array([*map(convert, distinct), None], dtype=object)
    return pd.Series(values[codes], index=texts.index, dtype=object)


def _to_id(text: str) -> str | None:
    text = text.strip(WHITESPACE)
    # No such word is longer: most texts need no regular expression.
    return None if not text or (len(text) <= _MAX_NO_ID and _NO_ID.search(text)) else text


def _distinct_times(texts: pd.Series, time_format: TimeFormat, decimal: str) -> pd.Series:
    texts = texts.str.strip(" ") if len(texts) else texts
    if (per_second := EPOCH_UNITS.get(time_format.pattern)) is not None:
        numbers = texts.str.replace(decimal, ".", regex=False) if decimal != "." else texts
        seconds = pd.to_numeric(numbers.where(numbers.str.fullmatch(NUMBER.strip("^$"))), errors="coerce") / per_second
        in_range = seconds.where((seconds >= 0) & (seconds < END_S))
        return pd.to_datetime(in_range, unit="s", utc=True).astype("datetime64[us, UTC]")
    if time_format.pattern == ISO:
        texts = texts.map(_plain_iso).astype(object)
        is_zoned = texts.map(lambda text: text is not None and re.search(ZONED, text) is not None).astype(bool)
        zoned = pd.to_datetime(texts.where(is_zoned), format="ISO8601", errors="coerce", utc=True)
        local = pd.to_datetime(texts.where(~is_zoned), format="ISO8601", errors="coerce")
    else:
        zoned = pd.Series(pd.NaT, index=texts.index, dtype="datetime64[us, UTC]")
        local = _local_times(texts, time_format.pattern)
    utc = _to_utc(local, time_format.zone).fillna(zoned.astype("datetime64[us, UTC]"))
    first, end = pd.Timestamp(0, tz="UTC"), pd.Timestamp(END_S, unit="s", tz="UTC")
    return utc.where((utc >= first) & (utc < end))


def _plain_iso(text: str) -> str | None:
    """An ISO time as pandas reads it; None for what is none, or names its zone by a place."""
    if not re.fullmatch(ISO_PATTERN, text):
        return None
    text = re.sub(f"^{WITHOUT_SECONDS}$", r"\1:00\2", re.sub("(?<=[0-9 ])z$", "Z", text))
    text = re.sub(r" ?(UTC|GMT|Z)$", "Z", text.replace(",", "."))
    text = re.sub(r"(?<=[T ])(\d):", r"0\1:", text)
    return re.sub(r" ([+-]\d{2}(:?\d{2})?)$", r"\1", text)


def _to_utc(local: pd.Series, zone: str) -> pd.Series:
    times = pd.to_datetime(local, errors="coerce").astype("datetime64[us]")
    localized = times.dt.tz_localize(zone, ambiguous=True, nonexistent="shift_forward")
    return localized.dt.tz_convert("UTC").astype("datetime64[us, UTC]")


def _local_times(texts: pd.Series, pattern: str) -> pd.Series:
    form = to_strptime(pattern)
    times = pd.to_datetime(texts, format=form, errors="coerce")
    if "[" in pattern and times.isna().any():  # a fraction of the second that may be there or not
        times = times.fillna(pd.to_datetime(texts, format=f"{form}.%f", errors="coerce"))
    return times


def to_strptime(pattern: str) -> str:
    """A pattern of Spark's, such as `d.M.yyyy H:mm`, as Python writes it; an optional fraction is left out."""
    parts = []
    for match in _PATTERN_PART.finditer(pattern):
        literal, letter, other = match.groups()
        if letter:
            parts.append(_DIRECTIVES.get(match[0], match[0]))
        else:
            parts.append((literal or other or "").replace("%", "%%"))
    return "".join(parts)
