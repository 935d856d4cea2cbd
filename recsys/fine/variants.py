"""Many similar linear models in one pass over the data (McMahan et al. 2013, sections 4.3 to 4.5).

Models differ in the fields that they see and in their rates. What they share is kept once per feature: the counts of
positives P and negatives N, from which the sum of squared gradients is P·N / (P + N) for all of them. Apart from that,
each model has its own weight (16 or more bits a model and feature less than with a gradient sum each), or, as a
`single` structure, all share one weight: each model computes its own update, and the mean of them is applied.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.fine.csr import Csr
from recsys.fine.ftrl import HALF, ONE, ZERO, f32, jit, sigmoid, weight_of


@dataclass(frozen=True)
class Variant:
    """One of the models: which fields it sees (all when None), its rate and penalties."""

    alpha: float = 0.05
    l1: float = 0.0
    l2: float = 1.0
    fields: frozenset[int] | None = None


@jit
def _learn(indptr, index, value, field, label, sees, rates, bias, counts, z, is_single, out):  # type: ignore[no-untyped-def]
    """`sees` (models, fields), `rates` (models, 3) alpha, l1, l2; `bias` (models,) z; `counts` (size + 1, 2) N and P.

    `z` (size, models), or (size, 1) when single. The last row of counts is the bias's.
    """
    models = len(rates)
    w = np.zeros(models, np.float32)
    last = len(counts) - 1
    for row in range(len(label)):
        start, end = indptr[row], indptr[row + 1]
        s = math.sqrt(_square_sum(counts[last]))
        for m in range(models):
            w[m] = weight_of(bias[m], s, ONE / rates[m, 0], ONE, ZERO, ZERO)
            out[row, m] = w[m]
        for place in range(start, end):
            i = index[place]
            root = math.sqrt(_square_sum(counts[i]))
            for m in range(models):
                if sees[m, field[place]]:
                    parameter = z[i, 0 if is_single else m]
                    out[row, m] += value[place] * weight_of(
                        parameter, root, ONE / rates[m, 0], ONE, rates[m, 1], rates[m, 2]
                    )
        is_positive = label[row] > HALF
        for m in range(models):
            out[row, m] = sigmoid(out[row, m])
            grown = math.sqrt(_grown(counts[last], is_positive))
            bias[m] += (out[row, m] - label[row]) - (grown - s) / rates[m, 0] * w[m]
        counts[last, 1 if is_positive else 0] += 1
        for place in range(start, end):
            i = index[place]
            root = math.sqrt(_square_sum(counts[i]))
            grown = math.sqrt(_grown(counts[i], is_positive))
            summed, users = ZERO, 0
            for m in range(models):
                if not sees[m, field[place]]:
                    continue
                parameter = z[i, 0 if is_single else m]
                weight = weight_of(parameter, root, ONE / rates[m, 0], ONE, rates[m, 1], rates[m, 2])
                step = (out[row, m] - label[row]) * value[place] - (grown - root) / rates[m, 0] * weight
                if is_single:
                    summed += step
                    users += 1
                else:
                    z[i, m] += step
            if is_single and users:
                z[i, 0] += summed / f32(users)
            counts[i, 1 if is_positive else 0] += 1


@jit
def _square_sum(counts):  # type: ignore[no-untyped-def]
    """Σ g² ≈ P·N / (P + N): what it is when the model predicts the mean P / (P + N)."""
    negatives, positives = f32(counts[0]), f32(counts[1])
    return negatives * positives / max(negatives + positives, ONE)


@jit
def _grown(counts, is_positive):  # type: ignore[no-untyped-def]
    """The sum when this example is counted, too."""
    negatives, positives = f32(counts[0]), f32(counts[1])
    if is_positive:
        positives += ONE
    else:
        negatives += ONE
    return negatives * positives / (negatives + positives)


class Variants:
    """Models that learn side by side; `single` has them share one weight per feature."""

    def __init__(self, variants: Sequence[Variant], size: int, num_fields: int, *, single: bool = False) -> None:
        self.single = single
        self._rates = np.array([(v.alpha, v.l1, v.l2) for v in variants], np.float32)
        every = range(num_fields)
        self._sees = np.array([[v.fields is None or f in v.fields for f in every] for v in variants])
        self._bias = np.zeros(len(variants), np.float32)
        self.counts = np.zeros((size + 1, 2), np.uint32)
        self.z = np.zeros((size, 1 if single else len(variants)), np.float32)

    @property
    def memory_bytes(self) -> int:
        """Bytes of weights and counts."""
        return int(self.z.nbytes + self.counts.nbytes)

    def learn(self, rows: Csr, label: NDArray[np.float32]) -> NDArray[np.float32]:
        """One pass in order; the predictions of each model before it learned from the row, (rows, models)."""
        rows.check(len(self.z))
        out = np.empty((len(label), len(self._rates)), np.float32)
        _learn(
            rows.indptr, rows.index, rows.value, rows.field, label, self._sees, self._rates, self._bias, self.counts,
            self.z, self.single, out,
        )  # fmt: skip
        return out


def field_importance(rows: Csr, label: NDArray[np.float32], size: int, num_fields: int) -> NDArray[np.float64]:
    """How much the progressive log loss grows without each field, (num_fields,): one model each, all in one pass."""
    every = frozenset(range(num_fields))
    variants = [Variant(), *[Variant(fields=every - {field}) for field in range(num_fields)]]
    predicted = Variants(variants, size, num_fields).learn(rows, label).astype(np.float64)
    p = np.clip(predicted, 1e-7, 1 - 1e-7)
    loss = -np.mean(np.where(label[:, None] > 0, np.log(p), np.log(1 - p)), axis=0)
    return np.asarray(loss[1:] - loss[0])
