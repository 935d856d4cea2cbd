"""Settings of the collector: which files are followed, and when landed files roll."""

import socket
from typing import ClassVar, Literal

from pydantic import Field

from conf import Settings


class CollectSettings(Settings):
    """The collector of one host."""

    section: ClassVar[str] = "collect"

    kind: Literal["weblog", "events", "texts"] = "weblog"
    """The landing zone that the lines are for; it also says where a line's time stands."""
    patterns: list[str] = Field(default_factory=list)
    """Files to follow, such as /var/log/nginx/access.log*; rotated names and .gz among them are recognised."""
    host: str = Field(default_factory=socket.gethostname, pattern=r"^\w[\w.-]*$", max_length=255)
    """Name of this host in the landing zone."""
    roll_bytes: int = Field(default=1 << 30, gt=0)
    """A landed file rolls, that is it is closed and becomes visible, when it has this many bytes,"""
    roll_records: int = Field(default=1_000_000, gt=0)
    """or this many lines,"""
    roll_s: float = Field(default=1800.0, gt=0)
    """or this age in seconds, whichever comes first."""
    poll_s: float = Field(default=1.0, gt=0)
    """Seconds between two checks of the files for new lines."""
    idle_s: float = Field(default=60.0, ge=0)
    """An unfinished last line is collected when its file has not changed for this many seconds."""
    batch_bytes: int = Field(default=8 << 20, gt=0)
    """Bytes that are read from a file before they are committed."""
