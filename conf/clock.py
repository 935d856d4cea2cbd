"""The site's clock, by a time zone's name: what the clock shows at a moment, and when a day begins."""

from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo


def local_time(moment: datetime, zone: str) -> datetime:
    """Date and time that the clocks of `zone` show, without a zone; a moment without a zone is UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware.astimezone(ZoneInfo(zone)).replace(tzinfo=None)


def day_start(day: date, zone: str) -> datetime:
    """The moment, in UTC, at which `day` begins by the clocks of `zone`; a day ends where the next one begins.

    Where midnight is skipped, as in Beirut's spring, it is the first moment after it.
    """
    # PEP 495: a skipped time with fold 0 has the offset before the gap, which makes it the moment of the change; of a
    # doubled midnight fold 0 is the first.
    return datetime.combine(day, time.min, ZoneInfo(zone)).astimezone(UTC)
