"""What is followed, and how files roll."""

import socket
from typing import ClassVar, Literal

from pydantic import Field

from conf import Settings


class CollectSettings(Settings):
    """The collector of one machine."""

    section: ClassVar[str] = "collect"

    kind: Literal["weblog", "events", "texts"] = "weblog"
    """Which landing zone the lines are for; it also says where a line's time stands."""
    patterns: list[str] = Field(default_factory=list)
    """Files to follow, such as /var/log/nginx/access.log*; rotated names and .gz among them are known again."""
    host: str = Field(default_factory=socket.gethostname)
    """Name of this machine in the landing zone."""
    roll_bytes: int = Field(default=1 << 30, gt=0)
    """A landed file is closed, and visible, when it has this size,"""
    roll_records: int = Field(default=1_000_000, gt=0)
    """or this many lines,"""
    roll_s: float = Field(default=1800.0, gt=0)
    """or this age in seconds, whichever comes first."""
    poll_s: float = Field(default=1.0, gt=0)
    """Seconds between looks at the files."""
    idle_s: float = Field(default=60.0, ge=0)
    """A last line without an end is taken when its file has not changed for so many seconds."""
    batch_bytes: int = Field(default=8 << 20, gt=0)
    """How much is read before it is made safe."""
