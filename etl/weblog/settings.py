"""Settings of the web logs: limits of lines and days, areas, funnels."""

import re
from datetime import date
from pathlib import Path
from typing import ClassVar

from pydantic import Field, field_validator

from conf import Settings


class WeblogSettings(Settings):
    """Rules for web logs."""

    section: ClassVar[str] = "weblog"

    max_line_bytes: int = Field(default=65536, gt=0)
    """A longer line is quarantined: no browser or server sends one."""
    first_day: date = date(1990, 1, 1)
    """The calendar (dim_date) begins here; a line of an earlier day is quarantined."""
    last_day: date = date(2059, 12, 31)
    """The calendar ends here."""
    area_table: Path | None = None
    """CSV file with columns network (CIDR) and area: then visitors have areas (dim_area)."""
    funnels: dict[str, list[str]] = Field(default_factory=dict)
    """Name -> regular expressions of URLs, in order; `main` names its steps step1, step2 …, others NAME.step1 …"""

    @field_validator("funnels")
    @classmethod
    def _are_patterns(cls, funnels: dict[str, list[str]]) -> dict[str, list[str]]:
        for name, steps in funnels.items():
            if not steps:
                raise ValueError(f"funnel {name} has no steps")
            for step in steps:
                try:
                    re.compile(step)
                except re.error as error:
                    raise ValueError(f"{step!r} is no regular expression: {error}") from None
        return funnels
