"""Rules for events of the site."""

from typing import ClassVar

from pydantic import Field

from conf import Settings


class EventSettings(Settings):
    """Rules for events from the site."""

    section: ClassVar[str] = "events"

    max_line_bytes: int = Field(default=65536, gt=0)
    """A longer line is quarantined."""
    late_days: int = Field(default=30, ge=1)
    """An event may reach the landing zone so many days after its own, which is then loaded again; a later one is
    quarantined."""
