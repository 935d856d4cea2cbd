"""Times as files have them: which format a column has, from a sample, and the expression that reads it.

One format holds for a whole column, so that a row that does not fit it is refused and never read by another rule.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pyspark.sql import Column
from pyspark.sql import functions as F

from conf import UsageError, UserError
from etl.sources.lines import NUMBER

EPOCH_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
"""Units of a time as a number since 1970 -> how many make a second."""
ISO = "iso"
# Exclusive, 2100-01-01, in seconds: milliseconds read as seconds are in the year 58,000.
END_S = 4_102_444_800
# Before that, a column of numbers is more likely something else: 14102100 is an hour as yyMMddHH, or June 1970.
_FIRST_LIKELY_S = 315_532_800  # 1980

ISO_PATTERN = (
    r"\d{4}-\d{2}-\d{2}([T ]\d{1,2}:\d{2}(:\d{2}([.,]\d{1,9})?)?"
    r"( ?(Z|z|UTC|GMT|[+-]\d{2}:?(\d{2})?|[A-Z][a-z]+/[A-Za-z_/]+))?)?"
)
# Spark reads no zone behind a time without seconds.
WITHOUT_SECONDS = r"(\d{4}-\d{2}-\d{2}[T ]\d{1,2}:\d{2})( ?[A-Za-z+-].*)"
# An hour alone, as +01, only behind a time: a date ends so, too.
ZONED = r"(Z|z|UTC|GMT|[+-]\d{2}:?\d{2}|:.*[+-]\d{2}|/[A-Za-z_]+)$"
# 11/12/2019 2:14:46 PM, 12.11.2019 14:14, 2019/11/12
_PARTS = re.compile(
    r"(?P<date>(?P<a>\d{1,4})(?P<sep>[-/.])(?P<b>\d{1,2})(?P=sep)(?P<c>\d{1,4}))"
    r"(?P<time>[T ]\d{1,2}:\d{2}(?P<second>:\d{2}(?P<fraction>\.\d{1,9})?)?(?P<half> ?[AaPp][Mm])?)?"
)
_COMPACT = re.compile(
    r"(19|20)\d{2}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?P<time>[01]\d|2[0-3])?(?(time)[0-5]\d[0-5]\d)"
)
# 01-Jan-1995, as MovieLens 100k has release dates
_NAMED_MONTH = re.compile(
    r"\d{1,2}(?P<sep>[-/ ])[A-Z][a-z]{2}(?P=sep)\d{4}(?P<time> \d{1,2}:\d{2}(?P<second>:\d{2})?)?"
)
_ROUNDED = re.compile(r"\d([.,]\d{1,6})?[eE]\+\d+")


@dataclass(frozen=True)
class TimeFormat:
    """How a column's times are written."""

    pattern: str
    """`s`, `ms`, `us` or `ns` since 1970, `iso`, or a pattern of Spark's, as `M/d/yyyy h:mm:ss a`."""
    zone: str
    """Time zone of times that name none themselves."""

    def describe(self) -> str:
        """The format in words."""
        if self.pattern in EPOCH_UNITS:
            return f"{self.pattern} since 1970"
        return f"{'ISO' if self.pattern == ISO else self.pattern}, {self.zone} unless they name a zone"


def parse_time_format(text: str) -> str:
    """A format as a user gives it: a unit, `iso`, or a pattern.

    Raises:
        UsageError: the pattern has letters that Spark does not read times by.
    """
    letters = set(re.findall("[A-Za-z]", re.sub(r"'[^']*'", "", text)))
    if text in EPOCH_UNITS or text == ISO or (letters and letters <= set("GyMdHhmsSaVzOXxZkK")):
        return text
    raise UsageError(
        f"'{text}' is no format of times: s, ms, us or ns (since 1970), iso, or a pattern such as 'M/d/yyyy h:mm:ss a'"
    )


def detect_time_format(place: str, samples: Sequence[str], zone: str) -> TimeFormat:
    """The format that most samples have.

    Args:
        place: file and column, for messages.
        samples: texts of the column.
        zone: of times that name none.

    Raises:
        UserError: there is no such format, or the day may be the month; the message says what to give.
    """
    texts = [text.strip() for text in samples if text.strip()]
    if not texts:
        raise UserError(f"{place}: no times among the first rows")
    for detect in (_compact_date, _epoch_unit, _iso, _named_month, _parts_pattern):
        if pattern := detect(place, texts):
            return TimeFormat(pattern, zone)
    raise UserError(f"{place}: can't tell the format of '{texts[0]}': give --time-format, for example 'yyMMddHH'")


def read_time(text: Column, time_format: TimeFormat, decimal: str = ".") -> Column:
    """The time as a UTC timestamp; null where the text does not fit the format or is not of 1970 to 2099."""
    trimmed = F.btrim(text)
    if (per_second := EPOCH_UNITS.get(time_format.pattern)) is not None:
        number = trimmed if decimal == "." else F.replace(trimmed, F.lit(decimal), F.lit("."))
        # As a decimal: a double has no room for the microseconds of a time in nanoseconds.
        units = F.when(F.rlike(number, F.lit(NUMBER)), number.try_cast("decimal(38,9)"))
        in_range = F.when((units >= 0) & (units < END_S * per_second), units)
        return F.timestamp_micros((in_range * 10**6 / per_second).cast("bigint"))
    if time_format.pattern == ISO:
        is_iso = F.rlike(trimmed, F.lit(f"^{ISO_PATTERN}$"))
        upper = F.regexp_replace(F.replace(trimmed, F.lit(","), F.lit(".")), r"(?<=[0-9 ])z$", "Z")
        whole = F.regexp_replace(upper, f"^{WITHOUT_SECONDS}$", "$1:00$2")
        time = F.when(is_iso, F.try_to_timestamp(whole))
        is_zoned = F.rlike(trimmed, F.lit(ZONED))
    else:
        letters = set(re.sub(r"'[^']*'", "", time_format.pattern))
        time, is_zoned = F.try_to_timestamp(trimmed, F.lit(time_format.pattern)), F.lit(bool(letters & set("VzOXxZ")))
    utc = F.when(is_zoned, time).otherwise(F.to_utc_timestamp(time, time_format.zone))
    return F.when((utc >= F.timestamp_seconds(F.lit(0))) & (utc < F.timestamp_seconds(F.lit(END_S))), utc)


def _compact_date(place: str, texts: Sequence[str]) -> str | None:
    matches = [_COMPACT.fullmatch(text) for text in texts]
    if not all(matches):
        return None
    lengths = {len(text) for text in texts}
    return {8: "yyyyMMdd", 14: "yyyyMMddHHmmss"}[lengths.pop()] if len(lengths) == 1 else None


def _named_month(place: str, texts: Sequence[str]) -> str | None:
    matches = [match for text in texts if (match := _NAMED_MONTH.fullmatch(text))]
    if len(matches) <= len(texts) / 2:
        return None
    most = matches[len(matches) // 2]
    time = (" H:mm:ss" if most["second"] else " H:mm") if most["time"] else ""
    return f"d{most['sep']}MMM{most['sep']}yyyy{time}"


def _epoch_unit(place: str, texts: Sequence[str]) -> str | None:
    """The unit by which most times are between 1980 and 2099."""
    numbers = [float(text.replace(",", ".")) for text in texts if re.fullmatch(r"-?\d+([.,]\d+)?([eE][+-]?\d+)?", text)]
    if len(numbers) <= len(texts) / 2:
        return None
    if sum(bool(_ROUNDED.fullmatch(text)) for text in texts) > len(texts) / 2:
        raise UserError(
            f"{place}: times were rounded by a spreadsheet ({texts[0]}): export them again as whole numbers"
        )
    middle = sorted(numbers)[len(numbers) // 2]
    for unit, per_second in EPOCH_UNITS.items():
        if _FIRST_LIKELY_S <= middle / per_second < END_S:
            return unit
    first = datetime.fromtimestamp(middle, UTC).date() if 0 <= middle < END_S else "no time after 1970"
    raise UserError(
        f"{place}: {middle:g} would be {first} in seconds: give --time-format, for example 'yyMMddHH', or s, ms or us"
    )


def _iso(place: str, texts: Sequence[str]) -> str | None:
    num_iso = sum(bool(re.fullmatch(ISO_PATTERN, text)) for text in texts)
    # Most, not all: a column with some damaged times still has a format, and their rows are refused one by one.
    return ISO if num_iso > len(texts) / 2 else None


def _parts_pattern(place: str, texts: Sequence[str]) -> str | None:
    """A pattern of day, month and year in the order that all dates agree with."""
    matches = [match for text in texts if (match := _PARTS.fullmatch(text))]
    if len(matches) <= len(texts) / 2:
        return None
    most = matches[len(matches) // 2]
    separator, has_half = most["sep"], most["half"] is not None
    if len(most["a"]) == 4:
        date = f"yyyy{separator}M{separator}d"
    else:
        first, second = (max(int(match[part]) for match in matches) for part in ("a", "b"))
        year = "yyyy" if len(most["c"]) == 4 else "yy"
        # Twelve hours are written where the month comes first; a dot is, where the day does.
        is_day_first = first > 12 or (second <= 12 and separator == ".")
        if first <= 12 and second <= 12 and not has_half and separator != ".":
            example = f"{most['a']}{separator}{most['b']}"
            raise UserError(
                f"{place}: '{example}' may have the day or the month first: give --time-format, "
                f"'M{separator}d{separator}{year}…' or 'd{separator}M{separator}{year}…'"
            )
        date = separator.join(["d", "M", year] if is_day_first else ["M", "d", year])
    if most["time"] is None:
        return date
    gap = " " if most["time"].startswith(" ") else "'T'"
    second_part = (":ss" if most["second"] else "") + (
        "[.SSSSSS]" if any(match["fraction"] for match in matches) else ""
    )
    half = (" a" if " " in most["half"] else "a") if has_half else ""
    return f"{date}{gap}{'h' if has_half else 'H'}:mm{second_part}{half}"
