"""Factorisation machine with FTRL-Proximal on every parameter: Numba kernels over CSR-like arrays, made for one k.

p = σ(w0 + Σ w_i x_i + Σ_{i<j} <v_i, v_j> x_i x_j). Per coordinate with gradient g (McMahan et al. 2013):
    τ = (√(n + g²) − √n) / α;  z += g − τ w;  n += g²;
    w = 0 if |z| <= λ1 else −(z − sign(z) λ1) / ((β + √n) / α + λ2)
Kept are s = √n, since only the root is ever used, and z for the linear weights. For λ1 = 0, as for factors, z and w say
the same: with B = (β + s)/α + λ2 and z = −w B, the update is w ← w − g / B' (B' with the new s). So a factor is read
without a division, and costs one root and one division when it learns. An index of −1 is passed over.

Kernels are compiled for a fixed k: the loops over factors become vector instructions. They release the GIL.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core.cgutils import get_item_pointer2
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

f32 = np.float32
ONE, HALF, ZERO, LIMIT = f32(1), f32(0.5), f32(0), f32(35)
QUANTUM = f32(2.0**-13)  # q2.13: one sign bit, 2 bits before the point, 13 behind it


@intrinsic
def prefetch(typing_context, array, row, column):  # type: ignore[no-untyped-def]
    """Ask for the cache line of `array[row, column]`: tables are larger than the caches."""
    signature = types.void(array, types.int64, types.int64)

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        struct = make_array(signature.args[0])(context, builder, arguments[0])
        pointer = get_item_pointer2(
            context, builder, struct.data, [None, None], [builder.extract_value(struct.strides, i) for i in (0, 1)],
            "A", [arguments[1], arguments[2]],
        )  # fmt: skip
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        ask = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        for_reading, into_all_caches, data = (ir.Constant(word, value) for value in (0, 3, 1))
        builder.call(ask, [builder.bitcast(pointer, byte), for_reading, into_all_caches, data])
        return context.get_dummy_value()

    return signature, generate


jit = njit(cache=True, fastmath={"contract", "reassoc", "nsz", "arcp"}, nogil=True, error_model="numpy")


@jit
def sigmoid(logit):  # type: ignore[no-untyped-def]
    return ONE / (ONE + math.exp(-min(max(logit, -LIMIT), LIMIT)))


@jit
def weight_of(z, s, inverse_alpha, beta, l1, l2):  # type: ignore[no-untyped-def]
    """A linear weight from what is kept of it."""
    over = abs(z) - l1
    if over <= ZERO:
        return ZERO
    return -math.copysign(over, z) / ((beta + s) * inverse_alpha + l2)


@jit
def step_linear(linear, i, w, g, inverse_alpha):  # type: ignore[no-untyped-def]
    """One FTRL update of a row (z, s) with weight w and gradient g."""
    grown = math.sqrt(linear[i, 1] * linear[i, 1] + g * g)
    linear[i, 0] += g - (grown - linear[i, 1]) * inverse_alpha * w
    linear[i, 1] = grown


@jit
def longest_row(indptr):  # type: ignore[no-untyped-def]
    longest = 0
    for row in range(len(indptr) - 1):
        longest = max(longest, indptr[row + 1] - indptr[row])
    return longest


@jit
def step_bias(bias, w0, g, inverse_alpha, beta):  # type: ignore[no-untyped-def]
    """Update (z, s) of w0, which is not regularised; returns the new w0."""
    step_linear(bias, 0, w0, g, inverse_alpha)
    return weight_of(bias[0, 0], bias[0, 1], inverse_alpha, beta, ZERO, ZERO)


@lru_cache
def learner(k: int) -> Callable[..., None]:
    """The kernel that predicts each example, then learns from it, in order; `out` gets the predictions.

    `bias` (1, 2) and `linear` (size, 2) hold z and s; `v` and `s` (size, k) the factors and the roots of their gradient
    sums. A factor's rate is alpha_v / (beta_v + s) with beta_v = beta + alpha_v λ2.
    """

    @jit
    def learn(  # type: ignore[no-untyped-def]
        indptr, index, value, label, weight, bias, linear, v, s, alpha, beta, l1, l2, alpha_v, beta_v, out
    ):
        w, total = np.zeros(longest_row(indptr), np.float32), np.zeros(k, np.float32)
        inverse_alpha = ONE / alpha
        w0 = weight_of(bias[0, 0], bias[0, 1], inverse_alpha, beta, ZERO, ZERO)
        rows = len(label)
        for row in range(rows):
            start, end = indptr[row], indptr[row + 1]
            if row + 1 < rows:
                for place in range(end, indptr[row + 2]):
                    i = np.int64(max(index[place], 0))
                    prefetch(linear, i, 0)
                    prefetch(v, i, 0)
                    prefetch(s, i, 0)
            logit, squares = w0, ZERO
            for f in range(k):
                total[f] = ZERO
            for place in range(start, end):
                i, x = index[place], value[place]
                if i < 0:
                    continue
                wi = weight_of(linear[i, 0], linear[i, 1], inverse_alpha, beta, l1, l2)
                w[place - start] = wi
                logit += wi * x
                for f in range(k):
                    part = v[i, f] * x
                    total[f] += part
                    squares += part * part
            pairs = ZERO
            for f in range(k):
                pairs += total[f] * total[f]
            p = sigmoid(logit + HALF * (pairs - squares))
            out[row] = p
            error = (p - label[row]) * weight[row]
            w0 = step_bias(bias, w0, error, inverse_alpha, beta)
            for place in range(start, end):
                i, x = index[place], value[place]
                if i < 0:
                    continue
                step_linear(linear, i, w[place - start], error * x, inverse_alpha)
                for f in range(k):
                    g = error * x * (total[f] - v[i, f] * x)
                    grown = math.sqrt(s[i, f] * s[i, f] + g * g)
                    s[i, f] = grown
                    v[i, f] -= alpha_v * g / (beta_v + grown)

    return learn  # type: ignore[no-any-return]


@lru_cache
def scorer(k: int) -> Callable[..., None]:
    """The kernel that scores rows by a table of weights (size, k + 1): factors, then the linear weight."""

    @jit
    def score(indptr, index, value, w0, table, scale, out):  # type: ignore[no-untyped-def]
        total = np.zeros(k, np.float32)
        rows = len(out)
        for row in range(rows):
            if row + 1 < rows:
                for place in range(indptr[row + 1], indptr[row + 2]):
                    i = np.int64(max(index[place], 0))
                    prefetch(table, i, 0)  # a row may lie in two cache lines
                    prefetch(table, i, k)
            logit, squares = w0, ZERO
            for f in range(k):
                total[f] = ZERO
            for place in range(indptr[row], indptr[row + 1]):
                i = index[place]
                if i < 0:
                    continue
                x = value[place] * scale
                logit += f32(table[i, k]) * x
                for f in range(k):
                    part = f32(table[i, f]) * x
                    total[f] += part
                    squares += part * part
            pairs = ZERO
            for f in range(k):
                pairs += total[f] * total[f]
            out[row] = sigmoid(logit + HALF * (pairs - squares))

    return score  # type: ignore[no-any-return]


@jit
def draw(state):  # type: ignore[no-untyped-def]
    """Next of Marsaglia's xorshift32 from `state` (1,) uint32, as a float in [0, 1)."""
    x = np.uint32(state[0])  # Numba widens shifted integers to 64 bits
    x = np.uint32(x ^ np.uint32(x << 13))
    x = np.uint32(x ^ np.uint32(x >> 17))
    x = np.uint32(x ^ np.uint32(x << 5))
    state[0] = x
    return f32(np.int32(x >> 8)) * f32(2.0**-24)


@jit
def to_fixed(weight, state):  # type: ignore[no-untyped-def]
    """Nearest q2.13 numbers below or above, at random so that the expected value is `weight`; ends at ±4."""
    scaled = f32(math.floor(weight * f32(2.0**13) + draw(state)))
    return np.int16(min(max(scaled, f32(-32768)), f32(32767)))


@lru_cache
def fixed_learner(k: int) -> Callable[..., None]:
    """As `learner`, with 16-bit weights: `table` (size, k + 1) int16 has factors, then the linear weight.

    `s` (size, k + 1) has the roots of the gradient sums. There is no z, so λ1 is 0: every update is in w.
    """

    @jit
    def learn(  # type: ignore[no-untyped-def]
        indptr, index, value, label, weight, bias, table, s, state, alpha, beta, beta_l, alpha_v, beta_v, out
    ):
        total = np.zeros(k, np.float32)
        inverse_alpha = ONE / alpha
        w0 = weight_of(bias[0, 0], bias[0, 1], inverse_alpha, beta, ZERO, ZERO)
        for row in range(len(label)):
            start, end = indptr[row], indptr[row + 1]
            logit, squares = w0, ZERO
            for f in range(k):
                total[f] = ZERO
            for place in range(start, end):
                i, x = index[place], value[place]
                if i < 0:
                    continue
                logit += f32(table[i, k]) * QUANTUM * x
                for f in range(k):
                    part = f32(table[i, f]) * QUANTUM * x
                    total[f] += part
                    squares += part * part
            pairs = ZERO
            for f in range(k):
                pairs += total[f] * total[f]
            p = sigmoid(logit + HALF * (pairs - squares))
            out[row] = p
            error = (p - label[row]) * weight[row]
            w0 = step_bias(bias, w0, error, inverse_alpha, beta)
            for place in range(start, end):
                i, x = index[place], value[place]
                if i < 0:
                    continue
                for f in range(k + 1):
                    old = f32(table[i, f]) * QUANTUM
                    g = error * x * (ONE if f == k else total[f] - old * x)
                    s[i, f] = math.sqrt(s[i, f] * s[i, f] + g * g)
                    rate = alpha / (beta_l + s[i, f]) if f == k else alpha_v / (beta_v + s[i, f])
                    table[i, f] = to_fixed(old - rate * g, state)

    return learn  # type: ignore[no-any-return]


@lru_cache
def field_learner(k: int) -> Callable[..., None]:
    """As `learner`, field-aware (Juan et al. 2016): feature i meets field f by v[i, f] (size, fields·k)."""

    @jit
    def learn(  # type: ignore[no-untyped-def]
        indptr, index, value, field, label, weight, bias, linear, v, s, alpha, beta, l1, l2, alpha_v, beta_v, out
    ):
        longest = longest_row(indptr)
        w, grads = np.zeros(longest, np.float32), np.zeros((longest, v.shape[1]), np.float32)
        inverse_alpha = ONE / alpha
        w0 = weight_of(bias[0, 0], bias[0, 1], inverse_alpha, beta, ZERO, ZERO)
        for row in range(len(label)):
            start, end = indptr[row], indptr[row + 1]
            logit = w0
            grads[: end - start] = ZERO
            for a in range(start, end):
                i, x = index[a], value[a]
                if i < 0:
                    continue
                w[a - start] = weight_of(linear[i, 0], linear[i, 1], inverse_alpha, beta, l1, l2)
                logit += w[a - start] * x
                for b in range(a + 1, end):
                    j, xx = index[b], x * value[b]
                    if j < 0:
                        continue
                    mine, other = field[b] * k, field[a] * k
                    for f in range(k):
                        vi, vj = v[i, mine + f], v[j, other + f]
                        logit += vi * vj * xx
                        grads[a - start, mine + f] += vj * xx
                        grads[b - start, other + f] += vi * xx
            p = sigmoid(logit)
            out[row] = p
            error = (p - label[row]) * weight[row]
            w0 = step_bias(bias, w0, error, inverse_alpha, beta)
            for place in range(start, end):
                i = index[place]
                if i < 0:
                    continue
                step_linear(linear, i, w[place - start], error * value[place], inverse_alpha)
                for f in range(v.shape[1]):
                    g = error * grads[place - start, f]
                    if g != ZERO:
                        s[i, f] = math.sqrt(s[i, f] * s[i, f] + g * g)
                        v[i, f] -= alpha_v * g / (beta_v + s[i, f])

    return learn  # type: ignore[no-any-return]


@lru_cache
def field_scorer(k: int) -> Callable[..., None]:
    """As `scorer`, field-aware: the table is (size, fields·k + 1)."""

    @jit
    def score(indptr, index, value, field, w0, table, scale, out):  # type: ignore[no-untyped-def]
        last = table.shape[1] - 1
        for row in range(len(out)):
            logit = w0
            for a in range(indptr[row], indptr[row + 1]):
                i, x = index[a], value[a] * scale
                if i < 0:
                    continue
                logit += f32(table[i, last]) * x
                for b in range(a + 1, indptr[row + 1]):
                    j = index[b]
                    if j < 0:
                        continue
                    xx = x * value[b] * scale
                    for f in range(k):
                        logit += f32(table[i, field[b] * k + f]) * f32(table[j, field[a] * k + f]) * xx
            out[row] = sigmoid(logit)

    return score  # type: ignore[no-any-return]
