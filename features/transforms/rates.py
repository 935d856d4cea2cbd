"""Smoothed click rates: the prior that many rates have in common, estimated from counts."""

from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy import special

from features.transforms.numbers import Numbers, numbers


@dataclass(frozen=True)
class SmoothedRate:
    """(clicks + α) / (impressions + α + β): a rate of few impressions is pulled to the prior α / (α + β)."""

    alpha: float
    beta: float

    @classmethod
    def fit(
        cls, rows: DataFrame, clicks: str, shown: str, method: Literal["moments", "em"] = "moments", steps: int = 1000
    ) -> Self:
        """Beta prior of the rates of many items, one a row.

        moments: matches mean and variance of the rates, less what the binomial draws add to it. em: maximises the
        likelihood of the counts by fixed-point steps (Minka 2000), from Spark's counts of equal (clicks, shown).
        """
        counts = rows.where((F.col(shown) > 0) & (F.col(clicks) >= 0) & (F.col(clicks) <= F.col(shown)))
        found: pd.DataFrame = counts.groupBy(F.col(clicks).alias("c"), F.col(shown).alias("s")).count().toPandas()
        c, s, weight = (found[name].to_numpy(float) for name in ("c", "s", "count"))
        alpha, beta = _by_moments(c, s, weight)
        return cls(*(_by_likelihood(c, s, weight, alpha, beta, steps) if method == "em" else (alpha, beta)))

    def transform(self, values: Any) -> Numbers:
        """(n, 2) of clicks and impressions -> (n,); missing or negative counts count as none."""
        counts = np.maximum(np.nan_to_num(numbers(values), nan=0.0), 0.0)
        clicks, shown = np.minimum(counts[:, 0], counts[:, 1]), counts[:, 1]
        return np.asarray((clicks + self.alpha) / (shown + self.alpha + self.beta))


def _by_moments(clicks: Numbers, shown: Numbers, weight: Numbers) -> tuple[float, float]:
    """α and β of the beta-binomial whose mean and variance of rates these are (weighed by impressions)."""
    total = float(weight @ shown)
    if total == 0:
        return 1.0, 1.0
    mean = min(max(float(weight @ clicks) / total, 1e-6), 1 - 1e-6)
    rows, squares = float(weight.sum()), float(weight @ shown**2)
    around = float(weight @ (shown * (clicks / shown - mean) ** 2))
    # E Σ n(r − m)² = m(1 − m) ((rows − 1) + ρ (total − squares / total − (rows − 1))), ρ = 1 / (α + β + 1).
    spread = total - squares / total - (rows - 1)
    rho = (around / (mean * (1 - mean)) - (rows - 1)) / spread if spread > 0 else 0.0
    strength = 1 / min(max(rho, 1e-6), 1 - 1e-6) - 1
    return mean * strength, (1 - mean) * strength


def _by_likelihood(
    clicks: Numbers, shown: Numbers, weight: Numbers, alpha: float, beta: float, steps: int
) -> tuple[float, float]:
    """Fixed-point steps from (alpha, beta) until they move by less than one in a million."""
    psi = special.digamma
    for _ in range(steps):
        total = alpha + beta
        below = float(weight @ (psi(shown + total) - psi(total)))
        if below <= 0:
            break
        a = alpha * float(weight @ (psi(clicks + alpha) - psi(alpha))) / below
        b = beta * float(weight @ (psi(shown - clicks + beta) - psi(beta))) / below
        done = abs(a - alpha) + abs(b - beta) < 1e-6 * total
        alpha, beta = max(a, 1e-9), max(b, 1e-9)
        if done:
            break
    return alpha, beta
