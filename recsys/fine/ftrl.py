"""Factorisation machine with FTRL-Proximal on every parameter: Numba kernels over CSR-like arrays.

p = σ(w0 + Σ w_i x_i + Σ_{i<j} <v_i, v_j> x_i x_j). Per coordinate (McMahan et al. 2013):
    σ = (√(n + g²) − √n) / α;  z += g − σ w;  n += g²;
    w = 0 if |z| <= λ1 else −(z − sign(z) λ1) / ((β + √n) / α + λ2)
Weights are not stored: they follow from z and n. A factor starts at a random v, so its z starts at −v (β/α + λ2), which
is what that formula gives back.
"""

import math

import numpy as np
from numba import njit


@njit(cache=True, fastmath=True)
def _weight(z, n, alpha, beta, l1, l2):  # type: ignore[no-untyped-def]
    if abs(z) <= l1:
        return 0.0
    shrunk = z - l1 if z > 0 else z + l1
    return -shrunk / ((beta + math.sqrt(n)) / alpha + l2)


@njit(cache=True, fastmath=True)
def _read(index, start, end, value, z, n, zv, nv, w, v, total, alpha, beta, l1, l2, alpha_v, l2_v):  # type: ignore[no-untyped-def]
    """Fill `w` (length,) and `v` (length, k) of one example and `total` (k,) = Σ v_i x_i; return the logit less w0."""
    k = zv.shape[1]
    linear, squares = 0.0, 0.0
    total[:] = 0.0
    for place in range(end - start):
        feature, x = index[start + place], value[start + place]
        w[place] = _weight(z[feature], n[feature], alpha, beta, l1, l2)
        linear += w[place] * x
        for f in range(k):
            v[place, f] = _weight(zv[feature, f], nv[feature, f], alpha_v, beta, 0.0, l2_v)
            part = v[place, f] * x
            total[f] += part
            squares += part * part
    pairs = 0.0
    for f in range(k):
        pairs += total[f] * total[f]
    return linear + 0.5 * (pairs - squares)


@njit(cache=True, fastmath=True)
def _step(z, n, i, w, g, alpha):  # type: ignore[no-untyped-def]
    """One FTRL update of coordinate i with weight w and gradient g."""
    grown = n[i] + g * g
    z[i] += g - (math.sqrt(grown) - math.sqrt(n[i])) / alpha * w
    n[i] = grown


@njit(cache=True, fastmath=True)
def learn(indptr, index, value, label, weight, bias, z, n, zv, nv, alpha, beta, l1, l2, alpha_v, l2_v, out):  # type: ignore[no-untyped-def]
    """Predict each example, then learn from it, in order; `out` (rows,) gets the predictions (progressive validation).

    `bias` is (2,): z and n of w0, which is not regularised.
    """
    k = zv.shape[1]
    longest = 0
    for row in range(len(label)):
        longest = max(longest, indptr[row + 1] - indptr[row])
    w, v, total = np.zeros(longest), np.zeros((longest, k)), np.zeros(k)
    for row in range(len(label)):
        start, end = indptr[row], indptr[row + 1]
        w0 = _weight(bias[0], bias[1], alpha, beta, 0.0, 0.0)
        logit = w0 + _read(index, start, end, value, z, n, zv, nv, w, v, total, alpha, beta, l1, l2, alpha_v, l2_v)
        p = 1.0 / (1.0 + math.exp(-min(max(logit, -35.0), 35.0)))
        out[row] = p
        error = (p - label[row]) * weight[row]
        grown = bias[1] + error * error
        bias[0] += error - (math.sqrt(grown) - math.sqrt(bias[1])) / alpha * w0
        bias[1] = grown
        for place in range(end - start):
            feature, x = index[start + place], value[start + place]
            _step(z, n, feature, w[place], error * x, alpha)
            for f in range(k):
                g = error * x * (total[f] - v[place, f] * x)
                _step(zv[feature], nv[feature], f, v[place, f], g, alpha_v)


@njit(cache=True, fastmath=True)
def score(indptr, index, value, bias, z, n, zv, nv, alpha, beta, l1, l2, alpha_v, l2_v, out):  # type: ignore[no-untyped-def]
    """Probabilities of rows, without learning."""
    k = zv.shape[1]
    longest = 0
    for row in range(len(out)):
        longest = max(longest, indptr[row + 1] - indptr[row])
    w, v, total = np.zeros(longest), np.zeros((longest, k)), np.zeros(k)
    w0 = _weight(bias[0], bias[1], alpha, beta, 0.0, 0.0)
    for row in range(len(out)):
        start, end = indptr[row], indptr[row + 1]
        logit = w0 + _read(index, start, end, value, z, n, zv, nv, w, v, total, alpha, beta, l1, l2, alpha_v, l2_v)
        out[row] = 1.0 / (1.0 + math.exp(-min(max(logit, -35.0), 35.0)))
