"""The kernels of every kind of FM, weight by weight, against FTRL-Proximal written out as in the paper."""

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from recsys.fine import ftrl
from recsys.fine.csr import Csr
from recsys.fine.fm import OnlineFM
from recsys.settings import FMSettings

SETTINGS = FMSettings(bits=10, k=2, alpha=0.3, beta=0.7, l1=0.02, l2=0.5, alpha_v=0.4, l2_v=0.3, sigma=0.4, seed=3)
Entry = tuple[int, int, float]  # feature, field, value


class PlainFTRL:
    """One coordinate at a time (McMahan et al. 2013, algorithm 1) on the logit of an FM or a field-aware one."""

    def __init__(self, model: OnlineFM, factors: np.ndarray) -> None:
        self.s, self.is_field_aware = model.settings, bool(model.fields)
        self.z: dict[Any, float] = defaultdict(float)
        self.n: dict[Any, float] = defaultdict(float)
        for (i, f), value in np.ndenumerate(factors):
            self.z["v", i, f] = -float(value) * (self.s.beta / self.s.alpha_v + self.s.l2_v)

    def weight(self, key: Any) -> float:
        alpha, l1, l2 = {
            "w0": (self.s.alpha, 0.0, 0.0),
            "w": (self.s.alpha, self.s.l1, self.s.l2),
            "v": (self.s.alpha_v, 0.0, self.s.l2_v),
        }[key[0]]
        z = self.z[key]
        if abs(z) <= l1:
            return 0.0
        return -(z - math.copysign(l1, z)) / ((self.s.beta + math.sqrt(self.n[key])) / alpha + l2)

    def factor_pairs(self, row: list[Entry]) -> Iterator[tuple[Any, Any, float]]:
        """Factors that are multiplied, with the product of their features' values."""
        for a, (i, field_i, x) in enumerate(row):
            for j, field_j, y in row[a + 1 :]:
                for f in range(self.s.k):
                    of_i, of_j = (field_j * self.s.k, field_i * self.s.k) if self.is_field_aware else (0, 0)
                    yield ("v", i, of_i + f), ("v", j, of_j + f), x * y

    def fit_one(self, row: list[Entry], label: float, row_weight: float) -> float:
        row = [entry for entry in row if entry[0] >= 0]  # -1: not included
        slopes: dict[Any, float] = defaultdict(float, {("w0",): 1.0})  # of the logit, by each weight
        logit = self.weight(("w0",))
        for i, _, x in row:
            logit += self.weight(("w", i)) * x
            slopes["w", i] = x
        for left, right, xx in self.factor_pairs(row):
            logit += self.weight(left) * self.weight(right) * xx
            slopes[left] += self.weight(right) * xx
            slopes[right] += self.weight(left) * xx
        p = 1 / (1 + math.exp(-logit))
        weights = {key: self.weight(key) for key in slopes}
        for key, slope in slopes.items():
            g = (p - label) * row_weight * slope
            alpha = self.s.alpha_v if key[0] == "v" else self.s.alpha
            sigma = (math.sqrt(self.n[key] + g * g) - math.sqrt(self.n[key])) / alpha
            self.z[key] += g - sigma * weights[key]
            self.n[key] += g * g
        return p


def random_rows(number: int) -> tuple[list[list[Entry]], np.ndarray, np.ndarray]:
    """Rows of no to four of twelve features in three fields, some of them not included; labels and weights."""
    rng = np.random.default_rng(5)
    rows = []
    for _ in range(number):
        features = rng.permutation(12)[: rng.integers(5)]
        values = rng.choice([1.0, 0.5, -1.5], len(features))
        rows.append([(int(i), int(i % 3), float(x)) for i, x in zip(features, values, strict=True)])
    rows[3].append((-1, 1, 1.0))
    rows[4].insert(0, (-1, 2, 0.5))
    return rows, (rng.random(number) < 0.4).astype(np.float32), rng.choice([1, 0.5, 3], number).astype(np.float32)


def csr(rows: list[list[Entry]]) -> Csr:
    entries = [entry for row in rows for entry in row]
    indptr = np.cumsum([0, *map(len, rows)])
    index, field, value = (np.array(column) for column in zip(*entries, strict=True))
    return Csr(indptr, index.astype(np.int32), value.astype(np.float32), field.astype(np.uint8))


@pytest.mark.parametrize(
    ("update", "tolerance"),
    [({}, 1e-4), ({"field_aware": True}, 1e-4), ({"weights": "q2.13", "l1": 0.0}, 40 * 2**-13)],
    ids=["FM", "field-aware", "16 bits"],
)
def test_every_weight_is_that_of_the_paper(update: dict[str, Any], tolerance: float) -> None:
    """Predictions before each row, weights, gradient sums and the bias after 40 rows."""
    model = OnlineFM(SETTINGS.model_copy(update=update), fields=3)
    is_fixed = "weights" in update
    factors = model.table[:, :-1] * 2.0**-13 if is_fixed else model.v.copy()
    plain = PlainFTRL(model, factors)
    rows, label, weight = random_rows(40)
    expected = [plain.fit_one(row, y, w) for row, y, w in zip(rows, label, weight, strict=True)]
    # In two parts: the second goes on from the state that the first left.
    predictions = [model.partial_fit(csr(rows[part]), label[part], weight[part]) for part in (slice(25), slice(25, 40))]
    assert np.concatenate(predictions) == pytest.approx(expected, abs=tolerance)

    assert model.bias_weight() == pytest.approx(plain.weight(("w0",)), abs=tolerance)
    assert model.bias[0, 1] == pytest.approx(math.sqrt(plain.n["w0",]), abs=tolerance)
    table = model.scoring_table() * (2.0**-13 if is_fixed else 1.0)
    roots = model.s if is_fixed else np.column_stack([model.s, model.linear[:, 1]])
    for i in range(12):
        keys = [*(("v", i, f) for f in range(model.width)), ("w", i)]
        assert table[i] == pytest.approx([plain.weight(key) for key in keys], abs=tolerance), i
        assert roots[i] == pytest.approx([math.sqrt(plain.n[key]) for key in keys], abs=tolerance), i
    assert not roots[12:].any()

    # Nothing more is learned, nothing is forgotten: predictions are those of the weights.
    frozen = [PlainFTRL.fit_one(_copy(plain), row, 0.0, 0.0) for row in rows]
    assert model.predict(csr(rows)) == pytest.approx(frozen, abs=tolerance)


def _copy(plain: PlainFTRL) -> PlainFTRL:
    copy = PlainFTRL.__new__(PlainFTRL)
    copy.s, copy.is_field_aware = plain.s, plain.is_field_aware
    copy.z, copy.n = plain.z.copy(), plain.n.copy()
    return copy


def test_a_linear_weight_is_0_until_its_sum_is_over_l1() -> None:
    one = np.float32(1)
    weights = [float(ftrl.linear_weight(np.float32(z), one, one / 2, one, one, one)) for z in (-3, -1, 0.5, 1, 5)]
    assert weights == pytest.approx([1.0, 0.0, 0.0, 0.0, -2.0])


def test_logits_are_clipped_where_a_probability_would_be_0_or_1() -> None:
    logits = np.float32([-1000, -35, -2, 0, 2, 35, 1000])
    expected = 1 / (1 + np.exp(-np.clip(logits.astype(float), -35, 35)))
    np.testing.assert_allclose([ftrl.sigmoid(logit) for logit in logits], expected, rtol=1e-5)


def test_the_longest_row_decides_the_room() -> None:
    assert ftrl.max_row_length(np.array([0, 2, 7, 8])) == 5
    assert ftrl.max_row_length(np.array([0])) == 0


def test_draws_are_marsaglias_xorshift_of_32_bits() -> None:
    state = np.array([1], np.uint32)
    draws = [float(ftrl.next_uniform(state)) for _ in range(3)]
    assert draws == [(x >> 8) / 2**24 for x in (270369, 67634689, 2647435461)]
    assert state[0] == 2647435461


def test_weights_are_rounded_up_or_down_by_the_draw_and_clipped() -> None:
    state = np.array([15], np.uint32)
    rounded = np.array([ftrl.round_to_fixed(np.float32(-1.5 - 0.25 / 2**13), state) for _ in range(1000)])
    assert set(rounded.tolist()) == {-12289, -12288}
    assert (rounded == -12289).mean() == pytest.approx(0.25, abs=0.06)
    assert ftrl.round_to_fixed(np.float32(9), state) == 32767
    assert ftrl.round_to_fixed(np.float32(-9), state) == -32768
