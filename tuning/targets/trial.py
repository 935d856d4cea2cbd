"""A trial: its number of steps, its folder, and the function that it reports to."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from training.launch.booking import CPU, Booking

Save = Callable[[Path], object]
"""Writes the state into a folder; what it returns is not used."""


class Report(Protocol):
    """Called after each step with the metrics of the validation rows and a function that saves the state; `last` when
    the trial ends before its last step.
    """

    def __call__(self, metrics: dict[str, float], save: Save | None, last: bool = False) -> None: ...


@dataclass(frozen=True)
class Trial:
    """What a target needs to run one trial."""

    steps: int
    """Reports at most."""
    folder: Path
    """A folder of the trial's own."""
    report: Report
    restored: Path | None = None
    """Folder of the state to resume from."""
    keeps_state: bool = False
    """Whether states are saved: population-based training copies them between trials."""
    booking: Booking = CPU
    """CPUs and GPUs that the trial has booked, on Ray."""
