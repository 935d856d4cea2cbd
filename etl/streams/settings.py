"""Settings of the streams: their windows, and where events are read."""

import re
from typing import ClassVar

from pydantic import Field, field_validator

from conf import Settings

_DURATION = re.compile(r"\d+ (second|minute|hour)s?")


class StreamSettings(Settings):
    """Rolling counts of topics and products."""

    section: ClassVar[str] = "stream"

    window: str = "20 minutes"
    """Length of a window."""
    slide: str = "1 minute"
    """Time from the start of one window to the start of the next."""
    watermark: str = "1 minute"
    """How late an event may be: a window is final this long after its end, in the time of the events."""
    top: int = Field(default=10, gt=0)
    """How many topics or products are ranked in a window."""
    trigger: str = "2 seconds"
    """How often new files are looked for."""
    files_per_batch: int = Field(default=1000, gt=0)
    """The most files that one batch reads."""
    kafka_servers: str | None = None
    """host:9092 …: read a Kafka topic instead of the landing zone; needs spark.extra's spark.jars.packages."""
    kafka_topic: str | None = None
    """Name of the Kafka topic; `texts` or `events` when not given."""

    @field_validator("window", "slide", "watermark", "trigger")
    @classmethod
    def _is_duration(cls, text: str) -> str:
        if not _DURATION.fullmatch(text):
            raise ValueError("write a duration as '9 seconds', '20 minutes' or '1 hour'")
        return text
