"""Settings of the simulator: size and first day of the generated site."""

from datetime import date
from typing import ClassVar

from pydantic import Field

from conf import Settings


class SimulatorSettings(Settings):
    """The generated site. Sizes are for `--scale 1`."""

    section: ClassVar[str] = "simulator"

    start: date = date(2026, 1, 1)
    """First day."""
    users: int = Field(default=3000, gt=0)
    """Grows in proportion to the scale."""
    items: int = Field(default=600, gt=0)
    """Grows with the square root of the scale."""
    topics: int = Field(default=12, gt=1)
    """Topics of items and tastes; the scale doesn't change them."""
    requests_per_day: int = Field(default=2860, gt=0)
    """Lists of ten items shown in a day, over all users; grows in proportion to the scale."""
