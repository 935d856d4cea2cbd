"""The prior that many click rates have in common, estimated from their counts; smooths rates of few impressions."""

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

Floats = NDArray[np.float64]
MAX_EM_STEPS = 1000


@dataclass(frozen=True)
class BetaPrior:
    """A Beta(alpha, beta) distribution of click rates; α + β impressions is what it weighs."""

    alpha: float
    beta: float

    @classmethod
    def fit(
        cls, counts: DataFrame, clicks: str, impressions: str, method: Literal["moments", "em"] = "moments"
    ) -> Self:
        """Prior of the rates of many items (or users, tags …).

        Costs one shuffle to counts of equal (clicks, impressions), which are few enough for the driver.

        Args:
            counts: one row per item.
            clicks: column of clicks; rows with more clicks than impressions are left out.
            impressions: column of impressions.
            method: moments matches mean and variance of the rates, less what binomial draws add to it; em maximises
                the beta-binomial likelihood by fixed-point steps (Minka 2000), slower and more exact.
        """
        is_valid = (F.col(impressions) > 0) & (F.col(clicks) >= 0) & (F.col(clicks) <= F.col(impressions))
        pairs: pd.DataFrame = (
            counts.where(is_valid).groupBy(F.col(clicks).alias("c"), F.col(impressions).alias("s")).count().toPandas()
        )
        c, n, weight = (pairs[name].to_numpy(float) for name in ("c", "s", "count"))  # each (pairs,)
        alpha, beta = _fit_moments(c, n, weight)
        return cls(*(_fit_likelihood(c, n, weight, alpha, beta) if method == "em" else (alpha, beta)))

    def rate(self, clicks: Column, impressions: Column) -> Column:
        """(clicks + α) / (impressions + α + β): few impressions leave the rate near α / (α + β)."""
        return (clicks + self.alpha) / (impressions + self.alpha + self.beta)


def _fit_moments(clicks: Floats, impressions: Floats, weight: Floats) -> tuple[float, float]:
    """α and β of the beta-binomial with this mean and variance of rates, weighted by impressions (Kleinman 1973)."""
    total = float(weight @ impressions)
    if total == 0:  # nothing was shown: a flat prior
        return 1.0, 1.0
    mean = min(max(float(weight @ clicks) / total, 1e-6), 1 - 1e-6)
    rows, squares = float(weight.sum()), float(weight @ impressions**2)
    variance_sum = float(weight @ (impressions * (clicks / impressions - mean) ** 2))
    # E Σ n(r − m)² = m(1 − m) ((rows − 1) + ρ (total − squares / total − (rows − 1))), ρ = 1 / (α + β + 1).
    spread = total - squares / total - (rows - 1)
    rho = (variance_sum / (mean * (1 - mean)) - (rows - 1)) / spread if spread > 0 else 0.0
    # Rates that vary less than binomial draws would have no spread: a very strong prior.
    strength = 1 / min(max(rho, 1e-6), 1 - 1e-6) - 1
    return mean * strength, (1 - mean) * strength


def _fit_likelihood(
    clicks: Floats, impressions: Floats, weight: Floats, alpha: float, beta: float
) -> tuple[float, float]:
    """Fixed-point steps (Minka 2000, equation 55) from (alpha, beta) until they move by less than one in a million."""
    from scipy.special import digamma  # takes half a second to import

    for _ in range(MAX_EM_STEPS):
        total = alpha + beta
        denominator = float(weight @ (digamma(impressions + total) - digamma(total)))
        if denominator <= 0:  # no rows
            break
        a = alpha * float(weight @ (digamma(clicks + alpha) - digamma(alpha))) / denominator
        b = beta * float(weight @ (digamma(impressions - clicks + beta) - digamma(beta))) / denominator
        is_converged = abs(a - alpha) + abs(b - beta) < 1e-6 * total
        alpha, beta = max(a, 1e-9), max(b, 1e-9)
        if is_converged:
            break
    return alpha, beta
