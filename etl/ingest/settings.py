"""Settings of `millrace ingest`."""

from typing import ClassVar

from pydantic import Field

from conf import Settings


class IngestSettings(Settings):
    """How forgiving an ingest is."""

    section: ClassVar[str] = "ingest"

    max_refused: float = Field(default=0.05, ge=0, le=1)
    """Share of a command's rows that may be refused (they go to ods_quarantine); beyond it nothing is loaded."""
