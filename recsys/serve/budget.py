"""The time that a request has, and what the steps of its answer are expected to take."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

SMOOTHING = 0.05  # weight of a new measurement
FIXED_SHARE = 0.3  # of a step's time at 100 rows, which it takes for a single row as well


class Costs:
    """Mean milliseconds of each step at 100 rows, as measured in this process."""

    def __init__(self) -> None:
        self.mean_ms: dict[str, float] = {}

    def expect(self, step: str, rows: int) -> float:
        """Expected milliseconds of a step; 0 for one that was never measured."""
        return self.mean_ms.get(step, 0.0) * _size(rows)

    def record(self, step: str, rows: int, milliseconds: float) -> None:
        """Learn from a measurement."""
        at_100 = milliseconds / _size(rows)
        old = self.mean_ms.get(step, at_100)
        self.mean_ms[step] = old + SMOOTHING * (at_100 - old)


def _size(rows: int) -> float:
    return FIXED_SHARE + (1 - FIXED_SHARE) * rows / 100


class Budget:
    """What is left of a request's time.

    Args:
        milliseconds: in all, from `arrived`.
        costs: of the process.
        arrived: by `time.perf_counter`.
        reserve_ms: for what follows the last step: re-ranking, writing the answer.
    """

    def __init__(self, milliseconds: float, costs: Costs, arrived: float, reserve_ms: float = 1.0) -> None:
        self._deadline = arrived + (milliseconds - reserve_ms) / 1000
        self._costs = costs
        self.steps: dict[str, float] = {}
        """Milliseconds of each step that was run."""

    def allows(self, *steps: str, rows: int) -> bool:
        """Whether the steps are expected to end in time."""
        expected = sum(self._costs.expect(step, rows) for step in steps)
        return time.perf_counter() + expected / 1000 <= self._deadline

    def run(self, step: str, rows: int, function: Callable[[], T]) -> T:
        """Run a step and learn what it takes."""
        started = time.perf_counter()
        result = function()
        milliseconds = (time.perf_counter() - started) * 1000
        self._costs.record(step, rows, milliseconds)
        self.steps[step] = self.steps.get(step, 0.0) + milliseconds
        return result
