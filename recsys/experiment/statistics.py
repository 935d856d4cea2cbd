"""What the difference between two arms of an experiment says: its interval, and how surely it is none.

Everything is by user, who is what was assigned: rows of one user are not independent of each other.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
MISMATCH = 0.001
"""p of the sample ratio below which the assignment itself is broken (Fabijan et al. 2019)."""


@dataclass(frozen=True)
class Sample:
    """A metric of the users of one arm, by its moments: these can be summed where the users are.

    The metric is the mean of `value`, or the ratio of the sums of `value` and `base`.
    """

    users: int
    means: Floats
    """(3,) of value, base, and the metric before the experiment, which can't have changed it."""
    covariances: Floats
    """(3, 3) of the same over the users, with divisor `users - 1`."""
    is_ratio: bool = False
    has_before: bool = False

    @classmethod
    def of(cls, value: Floats, base: Floats | None = None, before: Floats | None = None) -> "Sample":
        """Of (users,) arrays: `base` is the denominator of a ratio, as impressions are of a click rate."""
        nothing = np.zeros(len(value))
        # Always three, so that arms, days and metrics of any kind are summed the same way.
        columns = [value, nothing if base is None else base, nothing if before is None else before]
        covariances = np.cov(columns) if len(value) > 1 else np.full((3, 3), math.nan)
        means = np.array([column.mean() if len(value) else math.nan for column in columns])
        return cls(len(value), means, covariances, base is not None, before is not None)

    @property
    def estimate(self) -> float:
        """The mean, or the ratio of the sums; NaN of nothing."""
        if not self.is_ratio:
            return float(self.means[0])
        return float(self.means[0] / self.means[1]) if self.means[1] else math.nan

    @property
    def weights(self) -> Floats:
        """(3,) by which a user's three values make what varies of the estimate.

        Of a ratio that is the delta method's (Deng et al. 2018): users bring both of its parts.
        """
        if not self.is_ratio:
            return np.array([1.0, 0.0, 0.0])
        # R = V̄ / B̄ varies, to first order, as (v − R b) / B̄.
        return np.array([1.0, -self.estimate, 0.0]) / self.means[1] if self.means[1] else np.full(3, math.nan)

    def variance(self, weights: Floats) -> float:
        """Of the mean over the users of a weighted sum of their three values."""
        if not self.users > 1:  # one user has no covariance
            return math.nan
        # wᵀ Σ w is the variance of one user's weighted sum; that of a mean over n users is an n-th of it.
        return float(weights @ self.covariances @ weights) / self.users


@dataclass(frozen=True)
class Difference:
    """An arm against the control."""

    control: float
    arm: float
    low: float
    """Of the interval of `arm - control`."""
    high: float
    p_value: float
    """Of no difference, if the experiment is read once, at a time that was set beforehand."""
    sequential_p_value: float
    """Of no difference, however often it is read until one is seen."""
    variance_reduction: float = 0.0
    """Share of the variance that what was before has explained."""

    @property
    def difference(self) -> float:
        """`arm - control`."""
        return self.arm - self.control

    @property
    def relative(self) -> float:
        """The difference as a share of the control's value; NaN where that is 0."""
        return self.difference / self.control if self.control else math.nan


def sample_ratio_p_value(users: Sequence[int], weights: Sequence[float]) -> float:
    """Probability of sizes at least as far from the planned shares, by the χ² test.

    Args:
        users: of each arm.
        weights: planned share of each, in any unit.
    """
    expected = np.array(weights) / sum(weights) * sum(users)  # (arms,)
    return float(stats.chisquare(users, expected).pvalue) if sum(users) else 1.0


def compare(control: Sample, arm: Sample, *, prior_effect: float = 0.05) -> Difference:
    """Compare two arms.

    Args:
        control: at least two users.
        arm: the same.
        prior_effect: relative size of effects that the sequential test is made for, which must not be chosen by the
            data; a wrong one costs power, no validity.
    """
    reduction, estimates = 0.0, (control.estimate, arm.estimate)
    # Of independent samples the variances add up.
    variance = control.variance(control.weights) + arm.variance(arm.weights)
    if control.has_before and arm.has_before and variance:
        estimates, adjusted = _adjusted(control, arm)
        reduction, variance = 1 - adjusted / variance, adjusted
    difference, error = estimates[1] - estimates[0], math.sqrt(variance)
    z = difference / error if error else 0.0
    width = float(stats.norm.ppf((1 + CONFIDENCE) / 2)) * error
    return Difference(
        *estimates,
        low=difference - width,
        high=difference + width,
        p_value=float(2 * stats.norm.sf(abs(z))),
        sequential_p_value=_sequential(difference, variance, prior_effect * abs(estimates[0])),
        variance_reduction=reduction,
    )


def _adjusted(control: Sample, arm: Sample) -> tuple[tuple[float, float], float]:
    """Estimates without what the time before explains (CUPED, Deng et al. 2013), and the variance of the difference."""
    arms = (control, arm)
    before = np.array([0.0, 0.0, 1.0])
    # Within the arms: a difference between them must not be taken for one of the covariate.
    covariance = sum((one.users - 1) * float(one.weights @ one.covariances @ before) for one in arms)
    spread = sum((one.users - 1) * float(one.covariances[2, 2]) for one in arms)
    # θ = cov(y, x) / var(x), the slope that leaves the least variance (Deng et al. 2013).
    theta = covariance / spread if spread else 0.0
    mean = sum(one.users * float(one.means[2]) for one in arms) / (control.users + arm.users)
    # Around the mean of all users, so that the estimates stay on the metric's scale.
    estimates = [one.estimate - theta * (float(one.means[2]) - mean) for one in arms]
    variance = sum(one.variance(one.weights - theta * before) for one in arms)
    return (estimates[0], estimates[1]), variance


def _sequential(difference: float, variance: float, prior: float) -> float:
    """Always-valid p-value of the mixture sequential probability ratio test (Johari et al. 2017).

    Effects are drawn from a normal distribution with the deviation `prior`; 1 where nothing can be said.
    """
    if not variance or not prior or math.isnan(variance):
        return 1.0
    total = variance + prior**2
    # Log of the mixture's likelihood over that of no difference; p is at most its inverse (Ville's inequality).
    log_ratio = 0.5 * math.log(variance / total) + difference**2 * prior**2 / (2 * variance * total)
    return min(1.0, math.exp(-log_ratio)) if log_ratio < 700 else 0.0
