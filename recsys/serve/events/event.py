"""An event of the site, as `/v1/events` takes it and `etl events` loads it."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

import msgspec

from etl.events.parse import ACTIONS
from etl.sources.json_lines import TIME

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
TYPES = ("impression", *ACTIONS)
MAX_AHEAD = timedelta(hours=1)  # clocks differ
_TIME = re.compile(TIME)


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One event. Its fields are those of docs/data-in-and-out.md."""

    event_id: Id
    type: Literal[TYPES]  # type: ignore[valid-type]  # those of the site, known when its process starts
    user_id: Id
    item_id: Id
    ts: str | None = None
    """RFC 3339 with a time zone; the moment of arrival when it is missing."""
    request_id: Id | None = None
    impression_id: Id | None = None
    position: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    device: Annotated[str, msgspec.Meta(max_length=100)] | None = None
    value: float | None = None
    propensity: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    features: dict[str, float] | None = None

    @property
    def moment(self) -> datetime:
        """When it happened, in UTC."""
        return datetime.fromisoformat(str(self.ts)).astimezone(UTC)


def fault(event: Event, now: datetime, late_days: int) -> str | None:
    """What `etl events` would refuse about an event, in one line that names the field; None when there is nothing.

    Args:
        event: with `ts`.
        now: the moment of arrival.
        late_days: see `events.late_days`.
    """
    for name in ("event_id", "user_id", "item_id", "request_id", "impression_id"):
        text = getattr(event, name)
        if text is not None and (text != text.strip() or not text.isprintable()):
            return f"{name}: no blanks at its ends, and printable characters only"
    if event.type == "impression" and event.position is None:
        return "position: an impression needs its position in the list, from 1"
    if not _TIME.match(str(event.ts)):
        return "ts: write it as 2026-01-07T13:00:00Z, with a time zone"
    try:
        moment = event.moment
    except (ValueError, OverflowError):
        return f"ts: {event.ts} is no moment"
    if moment > now + MAX_AHEAD:
        return "ts: it is in the future"
    if moment < now - timedelta(days=late_days):
        return f"ts: it is more than {late_days} days ago (events.late_days)"
    return None
