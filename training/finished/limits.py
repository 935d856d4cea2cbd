"""Satisficing limits (`latency_ms<=5`) and which way a metric is better: one metric to optimise, others to satisfy."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from conf import UserError

LIMIT = re.compile(r"^([\w@]+)\s*(<=|>=)\s*([-+.\deE]+)$")
# Metrics that are better when smaller, beside the log losses of one label or several.
SMALLER_IS_BETTER = frozenset(
    (
        *("softmax_loss", "cross_entropy", "train_loss", "ece", "rmse", "mae"),
        *("error", "e_measure", "cost_curve_area", "top_5_error"),
        *("latency_ms", "latency_us", "size_mb", "memory_mb"),
    )
)


@dataclass(frozen=True)
class Limit:
    """A bound that a metric has to satisfy, beside the one that is optimised."""

    metric: str
    sign: str
    bound: float

    @classmethod
    def parse(cls, text: str) -> "Limit":
        """The limit that `text` says, as `latency_ms<=5` or `recall@10>=0.1`. Raises UserError for any other text."""
        match = LIMIT.match(text.strip())
        if not match:
            raise UserError(f"'{text}' is no limit: write it as latency_ms<=5")
        return cls(match[1], match[2], float(match[3]))

    def is_satisfied(self, metrics: Mapping[str, Any]) -> bool:
        """Whether the metric was measured and is within the bound."""
        return self.metric in metrics and self.excess(metrics) <= 0

    def excess(self, metrics: Mapping[str, Any]) -> float:
        """By which share of the bound it is exceeded; 0 or less within it."""
        # As a share, so that limits in milliseconds and megabytes weigh the same in a search.
        over = float(metrics[self.metric]) - self.bound
        return (over if self.sign == "<=" else -over) / (abs(self.bound) or 1.0)


def sign_of(metric: str) -> int:
    """-1 for a metric of which smaller is better, else 1: the best value is the largest of sign × value."""
    is_loss = metric in SMALLER_IS_BETTER or metric.startswith("log_loss")
    return -1 if is_loss else 1
