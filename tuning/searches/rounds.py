"""A search in rounds: what one is asked for, what all share, and what a trial comes to."""

import math
from dataclasses import dataclass
from typing import Any

from conf import Config
from conf.runs import Run
from tuning.searches.judge import Judge
from tuning.searches.space import Point, Space
from tuning.settings import TuneSettings
from tuning.targets import Target

Row = dict[str, Any]
"""One trial, as `ads_tuning_trial` has it, but for its point and metrics as dicts."""


@dataclass(frozen=True)
class Round:
    """One pass of a search over a space; `budget` is the share of rows or epochs that its trials are given."""

    name: str
    space: Space
    trials: int
    budget: float
    first: int
    """Number of its first trial."""


@dataclass(frozen=True)
class Searching:
    """What all rounds of a search share; `data` is what all trials read."""

    config: Config
    target: Target
    data: Any
    search: str
    judge: Judge
    found: Run

    @property
    def settings(self) -> TuneSettings:
        return self.config.get(TuneSettings)

    def row(self, part: Round, number: int, point: Point) -> Row:
        """A trial that failed, until it is known to have done better."""
        return {
            "trial": part.first + number,
            "point": point,
            "metrics": {},
            "value": None,
            "objective": math.inf,
            "seed": self.settings.seed,
            "seconds": None,
            "steps": 0,
            "status": "failed",
            "error": None,
        }

    def measured(self, metrics: dict[str, float]) -> Row:
        """What metrics make of a row."""
        return {
            "metrics": metrics,
            "objective": self.judge.objective(metrics),
            "value": metrics[self.judge.metric],
        }
