"""Windows of the streams, and where they read."""

import re
from typing import ClassVar

from pydantic import Field, field_validator

from conf import Settings

_DURATION = re.compile(r"\d+ (second|minute|hour)s?")


class StreamSettings(Settings):
    """Rolling counts."""

    section: ClassVar[str] = "stream"

    window: str = "20 minutes"
    """Length of a window."""
    slide: str = "1 minute"
    """A window begins every so often."""
    watermark: str = "1 minute"
    """How late an event may be: a window is final so long after its end, in the time of the events."""
    top: int = Field(default=10, gt=0)
    """Places in a window."""
    trigger: str = "2 seconds"
    """How often new files are looked for."""
    files_per_batch: int = Field(default=1000, gt=0)
    """At most so many at once."""
    kafka_servers: str | None = None
    """host:9092 …: read a Kafka topic instead of the landing zone; needs spark.extra's spark.jars.packages."""
    kafka_topic: str | None = None
    """Its name; `texts` or `events` when not given."""

    @field_validator("window", "slide", "watermark", "trigger")
    @classmethod
    def _is_duration(cls, text: str) -> str:
        if not _DURATION.fullmatch(text):
            raise ValueError("write a duration as '9 seconds', '20 minutes' or '1 hour'")
        return text
