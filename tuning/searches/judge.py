"""Which trial is best: by one metric, among those that keep all limits."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conf import UserError
from training.limits import Limit, sign_of

WORST = 1e6  # of an objective; Optuna takes no infinity
BROKEN = 10.0  # on top of the objective where a limit is broken: the searches turn away from there


@dataclass(frozen=True)
class Judge:
    """`metric` is to be best, `limits` are to be kept."""

    metric: str
    limits: Sequence[Limit] = ()

    def objective(self, metrics: Mapping[str, float]) -> float:
        """What a search makes small. Raises UserError when a trial does not measure what is asked for."""
        for name in (self.metric, *(limit.metric for limit in self.limits)):
            if name not in metrics:
                raise UserError(f"trials don't measure '{name}'; choose from {', '.join(sorted(metrics))}")
        value = -sign_of(self.metric) * float(metrics[self.metric])
        broken = sum(max(limit.excess(metrics), 0.0) for limit in self.limits)
        penalised = value + (BROKEN + broken if broken > 0 else 0.0)
        return min(penalised, WORST) if math.isfinite(penalised) else WORST

    def ordered(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Trials that were measured, best first."""
        measured = [row for row in rows if row["status"] != "failed"]
        return sorted(measured, key=lambda row: self.objective(row["metrics"]))

    def best(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The best trial that ran to its end and keeps the limits. Raises UserError when there is none."""
        done = [row for row in self.ordered(rows) if row["status"] == "done"]
        if not done:
            error = next((row["error"] for row in rows if row.get("error")), "see trials.jsonl of the run")
            raise UserError(f"none of {len(rows)} trials ran to its end: {error}")
        feasible = [row for row in done if all(limit.is_kept(row["metrics"]) for limit in self.limits)]
        if not feasible:
            bounds = ", ".join(f"{limit.metric}{limit.sign}{limit.bound:g}" for limit in self.limits)
            near = {limit.metric: done[0]["metrics"][limit.metric] for limit in self.limits}
            raise UserError(f"none of {len(done)} trials keeps {bounds}; the nearest has {near}")
        return feasible[0]
