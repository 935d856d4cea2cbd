"""What a history is made of: attempts at stages with their faults, reads with what they saw, and the end of it all."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

Outcome = Literal["done", "failed", "killed"]
Content = Mapping[str, Mapping[int, int]]
"""Of a partition: source (a folder, a database) -> version of that source -> rows that carry its mark."""


@dataclass(frozen=True)
class Attempt:
    """One start of a stage for a day. Times are seconds of one clock."""

    stage: str
    day: str
    version: int
    """Of the stage's source when it started."""
    started: float
    ended: float
    outcome: Outcome
    fault: str = ""
    """What was done to it: `kill at rename`, `freeze …`, `full disk`; empty for nothing."""
    error: str = ""
    is_beside: bool = False
    """Within another attempt, which was frozen, and on a session that was open before: it completes nothing."""
    must_fail: bool = False
    """Its input breaks a check: no such rows may ever be read."""


@dataclass(frozen=True)
class Read:
    """What one reader saw of one partition."""

    reader: str
    table: str
    day: str
    started: float
    ended: float
    content: Content = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class StageRow:
    """A row of `ops_run`."""

    stage: str
    day: str
    status: str
    rows_in: int
    rows_out: int
    rows_invalid: int
    rows_quarantined: int


@dataclass(frozen=True)
class Target:
    """Where a stage's versions can be read: a table's partitions have the rows of a source."""

    stage: str
    table: str
    source: str
    rows: Mapping[str, Mapping[int, int]]
    """Day of the partition -> version -> rows: what is whole."""


@dataclass
class History:
    """Everything that a seed did and saw."""

    seed: int
    attempts: list[Attempt] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    runs: list[StageRow] = field(default_factory=list)
    final: dict[str, str] = field(default_factory=dict)
    """Table -> digest of its rows at the end."""
    quiet: dict[str, str] = field(default_factory=dict)
    """The same of a run without faults, in another order of days."""
    leftovers: list[str] = field(default_factory=list)
    """What is there after vacuum and nobody owns."""
    lines: dict[str, int] = field(default_factory=dict)
    """Lines that were to be there once -> how often they are."""
    watermarks: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Import and day -> its watermark and the greatest value up to that day in its table."""

    def save(self, path: Path) -> None:
        """Write everything as one JSON file, for a look at what went wrong."""
        path.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
