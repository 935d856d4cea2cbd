"""What clients may ask, checked strictly: an unknown field, a wrong type or size is refused by name."""

import re
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Annotated

import msgspec

from etl.sources.json_lines import TIME

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
MAX_ITEMS = 500
_TIME = re.compile(TIME)


class Context(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where and when the list is shown."""

    device: Annotated[str, msgspec.Meta(min_length=1, max_length=100)] | None = None
    """phone, tablet or desktop, as in the site's events."""
    at: str | None = None
    """Moment that features are computed for, RFC 3339 with a time zone; now when it is missing."""
    columns: Annotated[dict[Id, str], msgspec.Meta(max_length=200)] = {}
    """What the site declares to be known of a list (weather, campaign …), as text, by the names in its source."""


class Filter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which items a list may have."""

    seen: bool | None = None
    """Leave out what the user clicked, liked or bought; without it as `recall.exclude` has it."""
    bought: bool | None = None
    """Leave out what the user bought; without it as `recall.exclude` has it."""
    categories: Annotated[list[Id], msgspec.Meta(min_length=1, max_length=100)] | None = None
    """Only items of these topics."""


class RecommendRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A list for a user."""

    user: Id
    n: Annotated[int, msgspec.Meta(ge=1, le=200)] | None = None
    scene: Annotated[str, msgspec.Meta(min_length=1, max_length=100)] | None = None
    """Where on the site the list is; it is logged with the list."""
    context: Context = Context()
    exclude: Annotated[list[Id], msgspec.Meta(max_length=MAX_ITEMS)] = []
    filter: Filter = Filter()


class RankRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An order for given items."""

    user: Id
    items: Annotated[list[Id], msgspec.Meta(min_length=1, max_length=MAX_ITEMS)]
    context: Context = Context()
    explain: bool = False


class SimilarRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Items that the users of an item chose, too."""

    item: Id
    n: Annotated[int, msgspec.Meta(ge=1, le=50)] = 10


class RequestError(ValueError):
    """A request that can't be answered; the message names the field, in one line."""


def check_columns(context: Context, columns: Collection[str]) -> None:
    """Check that the site declares what a request says of its context. Raises RequestError for another column."""
    if unknown := sorted(set(context.columns) - set(columns)):
        there = f"there are {', '.join(sorted(columns))}" if columns else "the site declares none"
        raise RequestError(f"context.columns: no column {unknown[0]}; {there}")


def moment_of(context: Context, now: datetime) -> datetime:
    """The moment of a request, in UTC. Raises RequestError when `at` is none."""
    if context.at is None:
        return now
    # `fromisoformat` takes more than RFC 3339, among it times without a zone.
    if not _TIME.match(context.at):
        raise RequestError("context.at: write it as 2026-01-07T13:00:00Z, with a time zone")
    try:
        moment = datetime.fromisoformat(context.at).astimezone(UTC)
    except (ValueError, OverflowError):
        raise RequestError(f"context.at: {context.at} is no moment") from None
    if not 1970 < moment.year < 2200:
        raise RequestError(f"context.at: the year {moment.year} is out of range")
    return moment
