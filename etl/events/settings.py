"""Rules for events of the site."""

from typing import ClassVar

from pydantic import Field

from conf import Settings


class EventSettings(Settings):
    """Rules for events from the site."""

    section: ClassVar[str] = "events"

    max_line_bytes: int = Field(default=65536, gt=0)
    """A longer line is quarantined."""
