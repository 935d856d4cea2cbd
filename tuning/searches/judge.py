"""Which trial is best: by one metric, among those within all limits."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conf import UserError
from training.finished.limits import Limit, sign_of

WORST = 1e6  # the largest objective: Optuna takes neither infinity nor NaN
VIOLATION_PENALTY = 10.0  # added where a limit is exceeded, so that samplers turn away from that region


@dataclass(frozen=True)
class Judge:
    """One metric to optimise and limits to satisfy: satisficing limits make several goals one (`latency_ms<=5`)."""

    metric: str
    limits: Sequence[Limit] = ()

    def objective(self, metrics: Mapping[str, float]) -> float:
        """What a search minimises: the metric, negated where larger is better, plus a penalty for exceeded limits.

        Raises UserError when the trial did not measure the metric or one of the limits.
        """
        # By name: a search would otherwise only see all its trials fail, with a KeyError.
        for name in (self.metric, *(limit.metric for limit in self.limits)):
            if name not in metrics:
                raise UserError(f"trials don't measure '{name}'; choose from {', '.join(sorted(metrics))}")
        value = -sign_of(self.metric) * float(metrics[self.metric])
        # How far beyond: between two trials that exceed a limit, the nearer one is better.
        excess = sum(max(limit.excess(metrics), 0.0) for limit in self.limits)
        penalised = value + (VIOLATION_PENALTY + excess if excess > 0 else 0.0)
        return min(penalised, WORST) if math.isfinite(penalised) else WORST

    def ordered(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Trials that have metrics, best first; those that were stopped early are among them."""
        # By the objective, not the metric: the penalty puts trials beyond a limit behind those within.
        measured = [row for row in rows if row["status"] != "failed"]
        return sorted(measured, key=lambda row: self.objective(row["metrics"]))

    def best(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The best trial that ran to its end within the limits.

        A trial that was stopped early has the metrics of fewer steps: no match for one that has all.
        Raises UserError when there is none, with the nearest values.
        """
        done = [row for row in self.ordered(rows) if row["status"] == "done"]
        if not done:
            # Where all trials fail, they mostly do so for one reason.
            error = next((row["error"] for row in rows if row.get("error")), "see trials.jsonl of the run")
            raise UserError(f"none of {len(rows)} trials ran to its end: {error}")
        feasible = [row for row in done if all(limit.is_satisfied(row["metrics"]) for limit in self.limits)]
        if not feasible:
            bounds = ", ".join(f"{limit.metric}{limit.sign}{limit.bound:g}" for limit in self.limits)
            # The first of them has the smallest penalty, or nearly.
            near = {limit.metric: done[0]["metrics"][limit.metric] for limit in self.limits}
            raise UserError(f"none of {len(done)} trials keeps {bounds}; the nearest has {near}")
        return feasible[0]
