"""What a trial is given: its steps, and where to say how it does."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

Save = Callable[[Path], None]
"""Writes the state into a folder."""


class Report(Protocol):
    """Said after each step: metrics of the validation rows, what keeps the state, and whether the trial is at its end
    before all steps are made.
    """

    def __call__(self, metrics: dict[str, float], save: Save | None, last: bool = False) -> None: ...


@dataclass(frozen=True)
class Trial:
    """One trial."""

    steps: int
    """Reports it is to make, at most."""
    folder: Path
    """Its own, for what it writes."""
    report: Report
    restored: Path | None = None
    """Folder of the state to go on from."""
    keeps_state: bool = False
    """Whether its states are wanted (population based training)."""
