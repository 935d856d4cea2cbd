"""Confidence intervals of means over users, by bootstrap."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Poisson counts that are in memory at a time: 40 MB of int64.
BLOCK_CELLS = 5_000_000


def bootstrap_means(
    sums: ArrayLike, weights: ArrayLike, *, num_samples: int = 1000, seed: int = 7
) -> NDArray[np.float64]:
    """Means Σ sums / Σ weights over resampled clusters (users).

    Rows of one user depend on each other, so users are resampled, not rows. Poisson bootstrap (Chamandy et al. 2012):
    each user counts Poisson(1) times, which needs no shuffling and parallelises.

    Args:
        sums: (clusters,) numerator of each, or (clusters, columns) of several means over the same samples.
        weights: (clusters,) denominator of each.
        num_samples: how many means.
        seed: of the draws.

    Returns:
        (num_samples,) means, or (num_samples, columns).
    """
    s, w = np.asarray(sums, np.float64), np.asarray(weights, np.float64)
    rng = np.random.default_rng(seed)
    block = max(1, BLOCK_CELLS // max(len(s), 1))
    means = []
    for start in range(0, num_samples, block):
        counts = rng.poisson(1.0, (min(block, num_samples - start), len(s)))  # (samples, clusters)
        # A sample without any user would divide by 0.
        total = np.maximum(counts @ w, 1e-12)  # (samples,)
        means.append((counts @ s) / (total if s.ndim == 1 else total[:, None]))
    return np.concatenate(means)


def percentile_interval(values: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Low and high end of the central `level` of bootstrap values."""
    low, high = np.quantile(np.asarray(values), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
