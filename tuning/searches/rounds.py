"""A search in rounds: the settings of one round, what all rounds share, and the row of a trial."""

import logging
import math
from dataclasses import dataclass
from typing import Any

from conf import Config
from conf.errors import error_line
from conf.runs import Run
from tuning.searches.judge import Judge
from tuning.searches.space import Point, Space
from tuning.settings import TuneSettings
from tuning.targets import Target

log = logging.getLogger(__name__)

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
class SearchContext:
    """What all rounds of a search share; `data` is read by every trial."""

    config: Config
    target: Target
    settings: TuneSettings
    data: Any  # of the target's own kind
    search: str
    judge: Judge
    run: Run

    def row(self, search_round: Round, number: int, point: Point) -> Row:
        """The row of a trial that failed: what a trial that reports puts its metrics over."""
        return {
            "trial": search_round.first + number,
            "point": point,
            "metrics": {},
            "value": None,
            "objective": math.inf,  # never the best; samplers are told of the failure, not of this number
            "seed": self.settings.seed,
            "seconds": None,
            "steps": 0,
            "status": "failed",  # or done, or stopped: it was behind the others, or one of a round on less data
            "error": None,
        }

    def reported_row(
        self, search_round: Round, number: int, point: Point, result: dict[str, Any], error: Exception | None
    ) -> Row:
        """The row of a trial from its last result on Ray Tune, or from the error that ended it."""
        row = self.row(search_round, number, point)
        metrics = dict(result.get("metrics") or {})
        row |= {"metrics": metrics, "seconds": result.get("time_total_s"), "steps": result.get("training_iteration", 0)}
        if error:
            row["error"] = error_line(error)
            log.warning("trial %d failed: %s", row["trial"], row["error"])
        elif metrics:
            row |= {**self.measured(metrics), "status": "done" if result.get("is_last") else "stopped"}
        return row

    def measured(self, metrics: dict[str, float]) -> Row:
        """The part of a row that follows from a trial's metrics."""
        objective = self.judge.objective(metrics)  # first: its error names the metric that was not measured
        return {"metrics": metrics, "objective": objective, "value": metrics[self.judge.metric]}
