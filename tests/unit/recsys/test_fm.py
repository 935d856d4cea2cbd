"""The FM's kernels against the formulas written out in plain Python."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conf import UserError
from recsys.fine.fm import FM
from recsys.settings import FMSettings
from training.metrics import auc, log_loss

SMALL = FMSettings(bits=10, k=3, alpha=0.1, l1=0.05, l2=0.5, alpha_v=0.1, l2_v=0.3, sigma=0.1)


class PlainFM:
    """FTRL-Proximal on w0, w and v as in the paper, one coordinate at a time."""

    def __init__(self, model: FM) -> None:
        self.s = model.settings
        self.z = {**{("w", i): float(z) for i, z in enumerate(model.z)}, "w0": 0.0}
        self.z |= {("v", i, f): float(z) for i, row in enumerate(model.zv) for f, z in enumerate(row)}
        self.n = dict.fromkeys(self.z, 0.0)

    def weight(self, key: object) -> float:
        linear = isinstance(key, tuple) and key[0] == "w"
        factor = isinstance(key, tuple) and key[0] == "v"
        l1 = self.s.l1 if linear else 0.0
        l2 = self.s.l2 if linear else self.s.l2_v if factor else 0.0
        alpha = self.s.alpha_v if factor else self.s.alpha
        z, n = self.z[key], self.n[key]
        if abs(z) <= l1:
            return 0.0
        return -(z - math.copysign(l1, z)) / ((self.s.beta + math.sqrt(n)) / alpha + l2)

    def predict(self, row: list[tuple[int, float]]) -> float:
        logit = self.weight("w0") + sum(self.weight(("w", i)) * x for i, x in row)
        for a, (i, x) in enumerate(row):
            for j, y in row[a + 1 :]:
                logit += sum(self.weight(("v", i, f)) * self.weight(("v", j, f)) for f in range(self.s.k)) * x * y
        return 1 / (1 + math.exp(-logit))

    def learn(self, row: list[tuple[int, float]], label: float) -> float:
        p = self.predict(row)
        gradients: dict[object, float] = {"w0": p - label}
        for i, x in row:
            gradients["w", i] = (p - label) * x
            for f in range(self.s.k):
                others = sum(self.weight(("v", j, f)) * y for j, y in row if j != i)
                gradients["v", i, f] = (p - label) * x * others
        weights = {key: self.weight(key) for key in gradients}
        for key, g in gradients.items():
            alpha = self.s.alpha_v if isinstance(key, tuple) and key[0] == "v" else self.s.alpha
            sigma = (math.sqrt(self.n[key] + g * g) - math.sqrt(self.n[key])) / alpha
            self.z[key] += g - sigma * weights[key]
            self.n[key] += g * g
        return p


def csr(rows: list[list[tuple[int, float]]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    indptr = np.cumsum([0, *[len(row) for row in rows]])
    index = np.array([i for row in rows for i, _ in row], np.int64)
    return indptr, index, np.array([x for row in rows for _, x in row], np.float32)


ROWS = st.lists(
    st.tuples(
        st.lists(
            st.tuples(st.integers(0, 20), st.sampled_from([1.0, 0.5, -2.0])),
            min_size=0,
            max_size=5,
            unique_by=lambda c: c[0],
        ),
        st.integers(0, 1),
    ),
    min_size=1,
    max_size=40,
)


@settings(deadline=None, max_examples=25)
@given(ROWS)
def test_learning_follows_the_formulas(rows: list[tuple[list[tuple[int, float]], int]]) -> None:
    model = FM(SMALL)
    plain = PlainFM(model)
    expected = [plain.learn(row, label) for row, label in rows]
    features, labels = [row for row, _ in rows], np.array([label for _, label in rows], np.float32)
    assert model.learn(*csr(features), labels) == pytest.approx(expected, abs=2e-4)
    assert model.predict(*csr(features)) == pytest.approx([plain.predict(row) for row in features], abs=2e-4)


def test_factors_start_at_the_random_values_they_were_given() -> None:
    model = FM(FMSettings(bits=10, k=2, sigma=0.1, seed=3))
    start = np.random.default_rng(3).standard_normal((1024, 2), dtype=np.float32) * 0.1
    s = model.settings
    assert -model.zv / (s.beta / s.alpha_v + s.l2_v) == pytest.approx(start, abs=1e-6)


def pairs_data(n: int, seed: int) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """Labels hang on whether two fields agree: nothing for a linear model, all for an FM."""
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 6, n), rng.integers(0, 6, n)
    label = (rng.random(n) < np.where(a % 2 == b % 2, 0.8, 0.2)).astype(np.float32)
    index = np.stack([a, b + 100], axis=1).ravel()
    return (np.arange(n + 1) * 2, index, np.ones(2 * n, np.float32)), label


def test_the_factors_learn_what_a_linear_model_cannot() -> None:
    train, label = pairs_data(30_000, 1)
    test, truth = pairs_data(5_000, 2)
    scores = {}
    for k in (0, 4):
        model = FM(FMSettings(bits=10, k=k, l1=0.0, l2=0.1, sigma=0.1, alpha_v=0.1, l2_v=0.1))
        model.learn(*train, label)
        scores[k] = auc(truth, model.predict(*test))
    assert scores[0] < 0.55
    assert scores[4] > 0.78


def test_predictions_are_calibrated() -> None:
    train, label = pairs_data(30_000, 1)
    test, truth = pairs_data(5_000, 2)
    model = FM(FMSettings(bits=10, k=4, l1=0.0, l2=0.1, sigma=0.1, alpha_v=0.1, l2_v=0.1))
    progressive = log_loss(label, model.learn(*train, label))
    scores = model.predict(*test)
    assert abs(scores.mean() - truth.mean()) < 0.02
    assert log_loss(truth, scores) < progressive < math.log(2)


def test_a_weight_of_an_example_counts_like_that_many_gradients() -> None:
    model = FM(SMALL)
    indptr, index, value = csr([[(1, 1.0)]])
    model.learn(indptr, index, value, np.ones(1, np.float32), np.zeros(1, np.float32))
    assert model.n[1] == 0.0


def test_a_saved_model_predicts_the_same_and_a_corrupt_one_is_refused(tmp_path: Path) -> None:
    train, label = pairs_data(2_000, 1)
    model = FM(FMSettings(bits=10, k=4))
    model.learn(*train, label)
    path = tmp_path / "fm.npz"
    model.save(path, {"edges": np.arange(3)})
    again, extra = FM.load(path)
    assert (again.predict(*train) == model.predict(*train)).all()
    assert extra["edges"].tolist() == [0, 1, 2]
    path.write_bytes(path.read_bytes()[:-40] + b"0" * 40)
    with pytest.raises(UserError, match="is corrupt: its checksum does not fit"):
        FM.load(path)


def test_ids_outside_the_table_are_refused() -> None:
    with pytest.raises(ValueError, match=r"feature ids must lie in \[0, 1024\)"):
        FM(SMALL).predict(*csr([[(1024, 1.0)]]))
