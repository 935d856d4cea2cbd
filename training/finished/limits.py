"""Satisficing limits (`latency_ms<=5`) and which way a metric is better: one number to be best, others good enough."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from conf import UserError

LIMIT = re.compile(r"^([\w@]+)\s*(<=|>=)\s*([-+.\deE]+)$")
SMALLER_IS_BETTER = frozenset(
    ("log_loss", "calibration_error", "top_5_error", "train_loss", "latency_ms", "latency_us", "size_mb", "memory_mb")
)


@dataclass(frozen=True)
class Limit:
    """What a number must keep to be good enough."""

    metric: str
    sign: str
    bound: float

    @classmethod
    def parse(cls, text: str) -> "Limit":
        """Raises UserError for what is no limit."""
        match = LIMIT.match(text.strip())
        if not match:
            raise UserError(f"'{text}' is no limit: write it as latency_ms<=5")
        return cls(match[1], match[2], float(match[3]))

    def is_kept(self, numbers: Mapping[str, Any]) -> bool:
        return self.metric in numbers and self.excess(numbers) <= 0

    def excess(self, numbers: Mapping[str, Any]) -> float:
        """By how much of the bound the number breaks it; 0 or less when it keeps it."""
        over = float(numbers[self.metric]) - self.bound
        return (over if self.sign == "<=" else -over) / (abs(self.bound) or 1.0)


def sign_of(metric: str) -> int:
    """-1 where smaller is better, else 1."""
    return -1 if metric in SMALLER_IS_BETTER else 1
