"""Compiled loops of the factorisation; the numbers do not depend on the threads.

Symmetric matrices are packed as vectors (svec): the upper triangle, off-diagonal entries times √2, so that the inner
product of two vectors is that of the matrices. They are half as long, and one loop that the compiler vectorises.
"""

from typing import Any

import numpy as np
from numba import njit, prange

# Sums in any order, as vector instructions need it; NaN and infinity keep their meaning.
FASTMATH: Any = {"reassoc", "contract"}
CHUNKS = 16  # of the rows, whose sums are added up in order
MIN_SQUARE = 1e-8  # of the log odds: the bound's curvature has a limit at 0, its formula has none


@njit(cache=True)
def pack_second_moments(mean, covariance, packed):  # type: ignore[no-untyped-def]  # numba takes no annotations of arrays
    """E[x xᵀ] of vectors with `mean` (n, size) and `covariance` (n, size, size) into `packed` (n, size·(size+1)/2)."""
    size, root = mean.shape[1], np.sqrt(2.0)
    for e in range(len(mean)):
        position = 0
        for i in range(size):
            packed[e, position] = mean[e, i] * mean[e, i] + covariance[e, i, i]
            position += 1
            for j in range(i + 1, size):
                packed[e, position] = root * (mean[e, i] * mean[e, j] + covariance[e, i, j])
                position += 1


@njit(cache=True, fastmath=FASTMATH, inline="always")
def _dot(left, right):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(len(left)):
        total += np.float64(left[i]) * np.float64(right[i])
    return total


@njit(cache=True, fastmath=FASTMATH, inline="always")
def _curvature(dot, square, offset):  # type: ignore[no-untyped-def]
    """tanh(ξ/2) / 2ξ of the bound, which touches the logistic at the root of the expected square of the log odds."""
    xi = np.sqrt(max(square + 2 * offset * dot + offset * offset, MIN_SQUARE))
    return (1 / (1 + np.exp(-xi)) - 0.5) / xi


@njit(parallel=True, cache=True, fastmath=FASTMATH)
def update_posteriors(  # type: ignore[no-untyped-def]
    starts, other_code, label, weight, offset, own_second, other_mean, other_second, mean, covariance, prior_mean,
    precision, free, one,
):  # fmt: skip
    """The normal posterior of each vector of a side, in place; a thread per vector, so the order of threads is free."""
    size, root = mean.shape[1], np.sqrt(0.5)
    for e in prange(len(starts) - 1):
        packed, linear = np.zeros(own_second.shape[1]), np.zeros(size)
        for r in range(starts[e], starts[e + 1]):
            z, zz = other_mean[other_code[r]], other_second[other_code[r]]
            curvature = weight[r] * _curvature(_dot(mean[e], z), _dot(own_second[e], zz), offset[r])
            slope = weight[r] * (label[r] - 0.5) - curvature * offset[r]
            for i in range(size):
                linear[i] += slope * z[i]
            for i in range(len(packed)):
                packed[i] += curvature * zz[i]
        quadratic, position = np.empty((size, size)), 0
        for i in range(size):
            quadratic[i, i] = packed[position]
            position += 1
            for j in range(i + 1, size):
                quadratic[i, j] = quadratic[j, i] = root * packed[position]
                position += 1
        inner, target = precision.copy(), np.zeros(len(free))
        for i in range(len(free)):
            target[i] = linear[free[i]] - quadratic[free[i], one]
            for j in range(len(free)):
                inner[i, j] += quadratic[free[i], free[j]]
                target[i] += precision[i, j] * prior_mean[e, free[j]]
        inverse = np.linalg.inv(inner)
        for i in range(len(free)):
            value = 0.0
            for j in range(len(free)):
                value += inverse[i, j] * target[j]
                covariance[e, free[i], free[j]] = inverse[i, j]
            mean[e, free[i]] = value


@njit(parallel=True, cache=True, fastmath=FASTMATH)
def context_equations(  # type: ignore[no-untyped-def]
    user, item, label, weight, offset, intercept, user_mean, user_second, item_mean, item_second, indptr, indices,
    grams, targets,
):  # fmt: skip
    """Normal equations of the context effects, in parts of the rows: `grams` (CHUNKS, n, n), `targets` (CHUNKS, n)."""
    rows = len(user)
    for chunk in prange(CHUNKS):
        gram, target = grams[chunk], targets[chunk]
        for r in range(rows * chunk // CHUNKS, rows * (chunk + 1) // CHUNKS):
            dot = _dot(user_mean[user[r]], item_mean[item[r]])
            square = _dot(user_second[user[r]], item_second[item[r]])
            curvature = weight[r] * _curvature(dot, square, offset[r])
            slope = weight[r] * (label[r] - 0.5) - curvature * (intercept + dot)
            for first in indices[indptr[r] : indptr[r + 1]]:
                target[first] += slope
                for second in indices[indptr[r] : indptr[r + 1]]:
                    gram[first, second] += curvature


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def predict(  # type: ignore[no-untyped-def]
    user_mean, user_code, user_covariance, user_prior, item_mean, item_code, item_covariance, item_prior, offset, out
):
    """Probabilities of rows into `out`; see `inference.predict`. On one thread: servers predict in several."""
    size = user_mean.shape[1]
    for r in range(len(out)):
        cov_u = user_prior if user_code[r] < 0 else user_covariance[user_code[r]]
        cov_i = item_prior if item_code[r] < 0 else item_covariance[item_code[r]]
        u, v = user_mean[r], item_mean[r]
        variance = 0.0  # of uᵀv, where u and v are independent
        for i in range(size):
            for j in range(size):
                variance += cov_u[i, j] * (v[i] * v[j] + cov_i[i, j]) + cov_i[i, j] * u[i] * u[j]
        logit = (offset[r] + _dot(u, v)) / np.sqrt(1 + np.pi * max(variance, 0.0) / 8)
        out[r] = 1 / (1 + np.exp(-logit))
