"""FTRL-Proximal for factorisation machines: Numba kernels over compressed sparse rows, compiled for one k.

p = σ(w0 + Σ w_i x_i + Σ_{i<j} <v_i, v_j> x_i x_j). Per coordinate with gradient g (McMahan et al. 2013, algorithm 1):
    τ = (√(n + g²) − √n) / α;  z += g − τ w;  n += g²;
    w = 0 if |z| <= λ1 else −(z − sign(z) λ1) / ((β + √n) / α + λ2)
The state is z of the linear weights, and s = √n, since only the root is ever used. For λ1 = 0, as for factors, z and w
determine each other: with B = (β + s)/α + λ2 and z = −w B, the update is w ← w − g / B' (B' with the new s). So a
factor is read without a division, and costs one root and one division when it is updated. An index of −1 is skipped.

Kernels are compiled for a fixed k: the loops over factors become vector instructions. They release the GIL. Numba's
cache notices changes of a kernel's own file only: after a change here, delete `__pycache__`, or `inclusion.py` and
`linear_variants.py` go on with the old code.
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
# As float32: a Python float would make Numba compute in float64.
ONE, HALF, ZERO, MAX_LOGIT = f32(1), f32(0.5), f32(0), f32(35)
QUANTUM = f32(2.0**-13)  # of q2.13: one sign bit, 2 bits before the point, 13 behind it


@intrinsic
def prefetch(typing_context, array, row, column):  # type: ignore[no-untyped-def]
    """Prefetch the cache line of `array[row, column]`: tables are larger than the caches, and rows of them random.

    Numba has no such function; this calls LLVM's, https://llvm.org/docs/LangRef.html#llvm-prefetch-intrinsic.
    """
    signature = types.void(array, types.int64, types.int64)

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        struct = make_array(signature.args[0])(context, builder, arguments[0])
        pointer = get_item_pointer2(
            context, builder, struct.data, [None, None], [builder.extract_value(struct.strides, i) for i in (0, 1)],
            "A", [arguments[1], arguments[2]],
        )  # fmt: skip
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        for_reading, into_all_caches, data = (ir.Constant(word, value) for value in (0, 3, 1))
        builder.call(function, [builder.bitcast(pointer, byte), for_reading, into_all_caches, data])
        return context.get_dummy_value()

    return signature, generate


# Sums may be reordered, so that they vectorise; NaN and infinity keep their meaning.
jit = njit(cache=True, fastmath={"contract", "reassoc", "nsz", "arcp"}, nogil=True, error_model="numpy")


@jit
def sigmoid(logit):  # type: ignore[no-untyped-def]
    """1 / (1 + exp(−logit)), with the logit clipped to ±35, so that nothing overflows."""
    clipped = min(max(logit, -MAX_LOGIT), MAX_LOGIT)
    return ONE / (ONE + math.exp(-clipped))


@jit
def linear_weight(z, s, inverse_alpha, beta, l1, l2):  # type: ignore[no-untyped-def]
    """The linear weight of a state (z, s): the closed form of FTRL-Proximal, 0 for |z| <= l1."""
    excess = abs(z) - l1
    if excess <= ZERO:
        return ZERO
    return -math.copysign(excess, z) / ((beta + s) * inverse_alpha + l2)


@jit
def update_linear(linear, i, w, g, inverse_alpha):  # type: ignore[no-untyped-def]
    """One FTRL update of the state (z, s) in row i of `linear`, with weight w and gradient g."""
    new_s = math.sqrt(linear[i, 1] * linear[i, 1] + g * g)
    linear[i, 0] += g - (new_s - linear[i, 1]) * inverse_alpha * w
    linear[i, 1] = new_s


@jit
def max_row_length(indptr):  # type: ignore[no-untyped-def]
    """Most entries in a row: how much room a kernel needs for one."""
    max_length = 0
    for row in range(len(indptr) - 1):
        max_length = max(max_length, indptr[row + 1] - indptr[row])
    return max_length


@jit
def update_bias(bias, w0, g, inverse_alpha, beta):  # type: ignore[no-untyped-def]
    """Update the state (z, s) of w0, which is not regularised; returns the new w0."""
    update_linear(bias, 0, w0, g, inverse_alpha)
    return linear_weight(bias[0, 0], bias[0, 1], inverse_alpha, beta, ZERO, ZERO)


@lru_cache
def fit_kernel(k: int) -> Callable[..., None]:
    """Compile the kernel that predicts each example, then learns from it, in order; `out` (rows,) gets the predictions.

    `bias` (1, 2) and `linear` (size, 2) hold z and s; `v` and `s` (size, k) the factors and the roots of their gradient
    sums. A factor's rate is alpha_v / (beta_v + s) with beta_v = beta + alpha_v λ2. The pairs of a row cost k per entry
    (Rendle 2010, lemma 3.1): Σ_{i<j} <v_i, v_j> x_i x_j = ½ Σ_f ((Σ_i v_if x_i)² − Σ_i (v_if x_i)²).
    """

    @jit
    def fit(  # type: ignore[no-untyped-def]
        indptr, index, value, label, weight, bias, linear, v, s, alpha, beta, l1, l2, alpha_v, beta_v, out
    ):
        # w: weights of the row, for their update. sums: Σ_i v_i x_i, (k,).
        w, sums = np.zeros(max_row_length(indptr), np.float32), np.zeros(k, np.float32)
        inverse_alpha = ONE / alpha
        w0 = linear_weight(bias[0, 0], bias[0, 1], inverse_alpha, beta, ZERO, ZERO)
        rows = len(label)
        for row in range(rows):
            start, end = indptr[row], indptr[row + 1]
            if row + 1 < rows:
                # The next row's features arrive from memory while this row is computed.
                for entry in range(end, indptr[row + 2]):
                    i = np.int64(max(index[entry], 0))
                    prefetch(linear, i, 0)
                    prefetch(v, i, 0)
                    prefetch(s, i, 0)
            logit, squared_sum = w0, ZERO
            for f in range(k):
                sums[f] = ZERO
            for entry in range(start, end):
                i, x = index[entry], value[entry]
                if i < 0:
                    continue
                wi = linear_weight(linear[i, 0], linear[i, 1], inverse_alpha, beta, l1, l2)
                w[entry - start] = wi
                logit += wi * x
                for f in range(k):
                    vx = v[i, f] * x
                    sums[f] += vx
                    squared_sum += vx * vx
            pairs = ZERO
            for f in range(k):
                pairs += sums[f] * sums[f]
            p = sigmoid(logit + HALF * (pairs - squared_sum))
            out[row] = p
            error = (p - label[row]) * weight[row]  # gradient of the log loss by the logit
            w0 = update_bias(bias, w0, error, inverse_alpha, beta)
            for entry in range(start, end):
                i, x = index[entry], value[entry]
                if i < 0:
                    continue
                update_linear(linear, i, w[entry - start], error * x, inverse_alpha)
                for f in range(k):
                    g = error * x * (sums[f] - v[i, f] * x)
                    new_s = math.sqrt(s[i, f] * s[i, f] + g * g)
                    s[i, f] = new_s
                    v[i, f] -= alpha_v * g / (beta_v + new_s)

    return fit  # type: ignore[no-any-return]


@lru_cache
def predict_kernel(k: int) -> Callable[..., None]:
    """Compile the kernel that predicts rows by a table of weights (size, k + 1): factors, then the linear weight.

    `scale` is QUANTUM for a table of 16-bit weights, else 1. It multiplies x once instead of every weight.
    """

    @jit
    def predict(indptr, index, value, w0, table, scale, out):  # type: ignore[no-untyped-def]
        sums = np.zeros(k, np.float32)
        rows = len(out)
        for row in range(rows):
            if row + 1 < rows:
                for entry in range(indptr[row + 1], indptr[row + 2]):
                    i = np.int64(max(index[entry], 0))
                    prefetch(table, i, 0)  # a row may lie in two cache lines
                    prefetch(table, i, k)
            logit, squared_sum = w0, ZERO
            for f in range(k):
                sums[f] = ZERO
            for entry in range(indptr[row], indptr[row + 1]):
                i = index[entry]
                if i < 0:
                    continue
                x = value[entry] * scale
                logit += f32(table[i, k]) * x
                for f in range(k):
                    vx = f32(table[i, f]) * x
                    sums[f] += vx
                    squared_sum += vx * vx
            pairs = ZERO
            for f in range(k):
                pairs += sums[f] * sums[f]
            out[row] = sigmoid(logit + HALF * (pairs - squared_sum))

    return predict  # type: ignore[no-any-return]


@jit
def next_uniform(random_state):  # type: ignore[no-untyped-def]
    """Next of Marsaglia's xorshift32 from `random_state` (1,) uint32, as a float in [0, 1)."""
    x = np.uint32(random_state[0])  # unsigned again after each shift: Numba widens shifted integers to 64 bits
    x = np.uint32(x ^ np.uint32(x << 13))
    x = np.uint32(x ^ np.uint32(x >> 17))
    x = np.uint32(x ^ np.uint32(x << 5))
    random_state[0] = x
    return f32(np.int32(x >> 8)) * f32(2.0**-24)  # float32 holds 24 bits exactly


@jit
def round_to_fixed(weight, random_state):  # type: ignore[no-untyped-def]
    """Round to q2.13 up or down at random, so that the expected value is `weight` (section 4.2); clipped to ±4."""
    scaled = f32(math.floor(weight * f32(2.0**13) + next_uniform(random_state)))
    return np.int16(min(max(scaled, f32(-32768)), f32(32767)))


@lru_cache
def fixed_point_fit_kernel(k: int) -> Callable[..., None]:
    """Compile `fit_kernel` for 16-bit weights: `table` (size, k + 1) int16 has factors, then the linear weight.

    `s` (size, k + 1) has the roots of the gradient sums; beta_linear = beta + alpha λ2. Without z there is no λ1.
    """

    @jit
    def fit(  # type: ignore[no-untyped-def]
        indptr,
        index,
        value,
        label,
        weight,
        bias,
        table,
        s,
        random_state,
        alpha,
        beta,
        beta_linear,
        alpha_v,
        beta_v,
        out,
    ):
        sums = np.zeros(k, np.float32)
        inverse_alpha = ONE / alpha
        w0 = linear_weight(bias[0, 0], bias[0, 1], inverse_alpha, beta, ZERO, ZERO)
        for row in range(len(label)):
            start, end = indptr[row], indptr[row + 1]
            logit, squared_sum = w0, ZERO
            for f in range(k):
                sums[f] = ZERO
            for entry in range(start, end):
                i, x = index[entry], value[entry]
                if i < 0:
                    continue
                logit += f32(table[i, k]) * QUANTUM * x
                for f in range(k):
                    vx = f32(table[i, f]) * QUANTUM * x
                    sums[f] += vx
                    squared_sum += vx * vx
            pairs = ZERO
            for f in range(k):
                pairs += sums[f] * sums[f]
            p = sigmoid(logit + HALF * (pairs - squared_sum))
            out[row] = p
            error = (p - label[row]) * weight[row]
            w0 = update_bias(bias, w0, error, inverse_alpha, beta)
            for entry in range(start, end):
                i, x = index[entry], value[entry]
                if i < 0:
                    continue
                for f in range(k + 1):
                    old = f32(table[i, f]) * QUANTUM
                    g = error * x * (ONE if f == k else sums[f] - old * x)  # column k: the linear weight
                    s[i, f] = math.sqrt(s[i, f] * s[i, f] + g * g)
                    rate = alpha / (beta_linear + s[i, f]) if f == k else alpha_v / (beta_v + s[i, f])
                    table[i, f] = round_to_fixed(old - rate * g, random_state)

    return fit  # type: ignore[no-any-return]


@lru_cache
def field_aware_fit_kernel(k: int) -> Callable[..., None]:
    """Compile `fit_kernel` for a field-aware FM: feature i meets field f by v[i, f] (size, fields·k).

    The pairs of a row cost k per pair of entries: there is no sum to share.
    """

    @jit
    def fit(  # type: ignore[no-untyped-def]
        indptr, index, value, field, label, weight, bias, linear, v, s, alpha, beta, l1, l2, alpha_v, beta_v, out
    ):
        max_length = max_row_length(indptr)
        w, grads = np.zeros(max_length, np.float32), np.zeros((max_length, v.shape[1]), np.float32)
        inverse_alpha = ONE / alpha
        w0 = linear_weight(bias[0, 0], bias[0, 1], inverse_alpha, beta, ZERO, ZERO)
        for row in range(len(label)):
            start, end = indptr[row], indptr[row + 1]
            logit = w0
            grads[: end - start] = ZERO
            for a in range(start, end):
                i, x = index[a], value[a]
                if i < 0:
                    continue
                w[a - start] = linear_weight(linear[i, 0], linear[i, 1], inverse_alpha, beta, l1, l2)
                logit += w[a - start] * x
                for b in range(a + 1, end):
                    j, xx = index[b], x * value[b]
                    if j < 0:
                        continue
                    own, other = field[b] * k, field[a] * k  # columns of v[i, field of j] and v[j, field of i]
                    for f in range(k):
                        vi, vj = v[i, own + f], v[j, other + f]
                        logit += vi * vj * xx
                        grads[a - start, own + f] += vj * xx
                        grads[b - start, other + f] += vi * xx
            p = sigmoid(logit)
            out[row] = p
            error = (p - label[row]) * weight[row]
            w0 = update_bias(bias, w0, error, inverse_alpha, beta)
            for entry in range(start, end):
                i = index[entry]
                if i < 0:
                    continue
                update_linear(linear, i, w[entry - start], error * value[entry], inverse_alpha)
                for f in range(v.shape[1]):
                    g = error * grads[entry - start, f]
                    if g != ZERO:  # most fields of a feature met nothing
                        s[i, f] = math.sqrt(s[i, f] * s[i, f] + g * g)
                        v[i, f] -= alpha_v * g / (beta_v + s[i, f])

    return fit  # type: ignore[no-any-return]


@lru_cache
def field_aware_predict_kernel(k: int) -> Callable[..., None]:
    """Compile `predict_kernel` for a field-aware FM: the table is (size, fields·k + 1)."""

    @jit
    def predict(indptr, index, value, field, w0, table, scale, out):  # type: ignore[no-untyped-def]
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

    return predict  # type: ignore[no-any-return]
