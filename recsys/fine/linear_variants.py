"""Many similar linear models in one pass over the data (McMahan et al. 2013, sections 4.3 to 4.5).

Models differ in the fields that they use and in their rates. What they share is stored once per feature: the counts of
positives P and negatives N, from which the sum of squared gradients is about P·N / (P + N) for all of them. Apart from
that, each model has one number per feature (an FTRL model of its own has two), or, with shared weights (the "single
value structure"), all have one together: each model computes its own update, and the mean of them is applied.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from conf import UserError
from conf.runs import Run
from features.metrics.classification import log_loss
from recsys.fine.csr import Csr
from recsys.fine.encode import FIELDS
from recsys.fine.ftrl import HALF, ONE, ZERO, f32, jit, linear_weight, sigmoid
from recsys.settings import LinearVariantsSettings


@dataclass(frozen=True)
class LinearVariant:
    """One of the models: its rate and penalties, and the numbers of the fields it uses (None: all)."""

    alpha: float = 0.05
    l1: float = 0.0
    l2: float = 1.0
    fields: frozenset[int] | None = None


@jit
def _fit(indptr, index, value, field, label, uses_field, rates, bias, counts, z, is_shared, out):  # type: ignore[no-untyped-def]
    """Train all models on rows, in order; `out` (rows, models) gets the predictions.

    `uses_field` (models, fields); `rates` (models, 3) alpha, l1, l2; `bias` (models,) z; `counts` (size + 1, 2) N, P,
    the last row the bias's; `z` (size, models), or (size, 1) when shared.
    """
    models = len(rates)
    w0 = np.zeros(models, np.float32)
    last = len(counts) - 1
    for row in range(len(label)):
        start, end = indptr[row], indptr[row + 1]
        # √Σg² of the bias: every example has it, so its counts are those of all examples.
        s0 = math.sqrt(_gradient_sum(counts[last]))
        for m in range(models):
            w0[m] = linear_weight(bias[m], s0, ONE / rates[m, 0], ONE, ZERO, ZERO)
            out[row, m] = w0[m]
        for entry in range(start, end):
            i = index[entry]
            s = math.sqrt(_gradient_sum(counts[i]))
            for m in range(models):
                if uses_field[m, field[entry]]:
                    zi = z[i, 0 if is_shared else m]
                    out[row, m] += value[entry] * linear_weight(zi, s, ONE / rates[m, 0], ONE, rates[m, 1], rates[m, 2])
        is_positive = label[row] > HALF
        for m in range(models):
            out[row, m] = sigmoid(out[row, m])
            # σ_t = (√Σ_{≤t} g² − √Σ_{<t} g²) / α, and z_t = z_{t−1} + g_t − σ_t w_t (McMahan et al. 2013, algorithm 1).
            new_s0 = math.sqrt(_next_gradient_sum(counts[last], is_positive))
            bias[m] += (out[row, m] - label[row]) - (new_s0 - s0) / rates[m, 0] * w0[m]
        # After the steps of all models: they share the count, and an example counts once.
        counts[last, 1 if is_positive else 0] += 1
        for entry in range(start, end):
            i = index[entry]
            s = math.sqrt(_gradient_sum(counts[i]))
            new_s = math.sqrt(_next_gradient_sum(counts[i], is_positive))
            # With shared weights it is the mean of the models' steps that is applied.
            step_sum, num_steps = ZERO, 0
            for m in range(models):
                if not uses_field[m, field[entry]]:
                    continue
                zi = z[i, 0 if is_shared else m]
                weight = linear_weight(zi, s, ONE / rates[m, 0], ONE, rates[m, 1], rates[m, 2])
                step = (out[row, m] - label[row]) * value[entry] - (new_s - s) / rates[m, 0] * weight
                if is_shared:
                    step_sum += step
                    num_steps += 1
                else:
                    z[i, m] += step
            if is_shared and num_steps:
                z[i, 0] += step_sum / f32(num_steps)
            counts[i, 1 if is_positive else 0] += 1


@jit
def _gradient_sum(counts):  # type: ignore[no-untyped-def]
    """Σ g² ≈ P·N / (P + N): exact when the model predicts the mean P / (P + N) (section 4.5)."""
    negatives, positives = f32(counts[0]), f32(counts[1])
    return negatives * positives / max(negatives + positives, ONE)


@jit
def _next_gradient_sum(counts, is_positive):  # type: ignore[no-untyped-def]
    """`_gradient_sum` with the present example counted."""
    negatives, positives = f32(counts[0]), f32(counts[1])
    if is_positive:
        positives += ONE
    else:
        negatives += ONE
    return negatives * positives / (negatives + positives)


class LinearVariants:
    """Linear models that train side by side on rows that are read, hashed and counted once.

    Attributes:
        counts: (size + 1, 2) negatives and positives of each feature, and in the last row of all examples.
        z: (size, models) FTRL state, or (size, 1) with shared weights.
    """

    def __init__(
        self, variants: Sequence[LinearVariant], size: int, num_fields: int, *, share_weights: bool = False
    ) -> None:
        """Create models that have learned nothing, for feature ids below `size`."""
        self.share_weights = share_weights
        self._rates = np.array([(v.alpha, v.l1, v.l2) for v in variants], np.float32)  # (models, 3)
        # (models, fields)
        uses_field = [[v.fields is None or f in v.fields for f in range(num_fields)] for v in variants]
        self._uses_field = np.array(uses_field)
        self._bias = np.zeros(len(variants), np.float32)
        self.counts = np.zeros((size + 1, 2), np.uint32)
        self.z = np.zeros((size, 1 if share_weights else len(variants)), np.float32)

    @property
    def memory_bytes(self) -> int:
        """Bytes of states and counts."""
        return int(self.z.nbytes + self.counts.nbytes)

    def partial_fit(self, rows: Csr, label: NDArray[np.float32]) -> NDArray[np.float32]:
        """Train all models on rows in one pass, in order.

        Returns:
            (rows, models) each model's prediction for a row before it learned from it.

        Raises:
            ValueError: ids or values that the kernel can't take.
        """
        rows.validate(len(self.z))
        out = np.empty((len(label), len(self._rates)), np.float32)
        _fit(
            rows.indptr, rows.index, rows.value, rows.field, label, self._uses_field, self._rates, self._bias,
            self.counts, self.z, self.share_weights, out,
        )  # fmt: skip
        return out


def field_importance(rows: Csr, label: NDArray[np.float32], size: int, num_fields: int) -> NDArray[np.float64]:
    """Measure how much the progressive log loss grows without each field: one model per field, all in one pass.

    Args:
        rows: examples, with ids below `size`.
        label: (rows,) 0 or 1.
        size: number of feature ids.
        num_fields: number of fields.

    Returns:
        (fields,) differences of log loss; near 0 or below for a field that another one makes superfluous.
    """
    all_fields = frozenset(range(num_fields))
    # The first has all fields: what each of the others loses is measured against it.
    variants = [LinearVariant(), *[LinearVariant(fields=all_fields - {field}) for field in range(num_fields)]]
    predicted = LinearVariants(variants, size, num_fields).partial_fit(rows, label)
    losses = np.array([log_loss(label, predicted[:, m]) for m in range(len(variants))])
    return np.asarray(losses[1:] - losses[0])


def log_linear_variants(
    run: Run,
    rows: Csr,
    label: NDArray[np.float32],
    size: int,
    variants: Mapping[str, LinearVariant],
    settings: LinearVariantsSettings,
) -> None:
    """Train the models of the section `linear_variants` on the training rows, and log their progressive log loss.

    Each row counts once: weights of a sampled training set (`features.balance`) are not used, so the losses compare
    with one another, not with the FM's.

    Args:
        run: the fine ranker's run: gets `progressive_log_loss` of model `linear/NAME`, and `memory_bytes` and
            `importance FEATURE` of model `linear`.
        rows: the training rows in the order of time.
        label: (rows,) 0 or 1.
        size: number of feature ids.
        variants: of `build_variants`.
        settings: the section.
    """
    if variants:
        models = LinearVariants(list(variants.values()), size, len(FIELDS), share_weights=settings.share_weights)
        predicted = models.partial_fit(rows, label)
        run.log_metric("fine", "train", "memory_bytes", models.memory_bytes, size, model="linear")
        for m, name in enumerate(variants):
            loss = log_loss(label, predicted[:, m])
            run.log_metric("fine", "train", "progressive_log_loss", loss, len(label), model=f"linear/{name}")
    if settings.field_importance:
        for name, growth in zip(FIELDS, field_importance(rows, label, size, len(FIELDS)), strict=True):
            run.log_metric("fine", "train", f"importance {name}", float(growth), len(label), model="linear")


def build_variants(settings: LinearVariantsSettings) -> dict[str, LinearVariant]:
    """Build the configured models by name: the features that they use become numbers of fields.

    Raises:
        UserError: a model leaves out a feature that the catalog lacks.
    """
    variants = {}
    for name, model in settings.models.items():
        if unknown := set(model.without) - set(FIELDS):
            raise UserError(
                f"linear_variants.models.{name}.without names unknown features {', '.join(sorted(unknown))}; "
                f"choose from {', '.join(FIELDS)}"
            )
        fields = frozenset(number for number, field in enumerate(FIELDS) if field not in model.without)
        variants[name] = LinearVariant(model.alpha, model.l1, model.l2, fields)
    return variants
