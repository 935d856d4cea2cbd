import numpy as np
import pytest

from features.inspect.column_statistics import (
    condition_number,
    correlated_pairs,
    information_value,
    population_stability,
    variance_inflation,
)
from features.inspect.report import bin_counts
from features.inspect.selection import LabelledRows, select_by_filter, select_by_importance, select_by_wrapper


def related() -> np.ndarray:
    """Column 1 is nearly column 0, column 3 is constant."""
    rng = np.random.default_rng(0)
    a, c = rng.normal(size=(2, 5000))
    return np.stack([a, a + 0.1 * rng.normal(size=5000), c, np.ones(5000)], axis=1)


def test_psi_of_known_counts() -> None:
    assert population_stability(np.array([50.0, 50.0]), np.array([500.0, 500.0])) == pytest.approx(0, abs=1e-4)
    expected = (0.8 - 0.5) * np.log(0.8 / 0.5) + (0.2 - 0.5) * np.log(0.2 / 0.5)
    assert population_stability(np.array([5e6, 5e6]), np.array([8e6, 2e6])) == pytest.approx(expected, rel=1e-5)
    assert np.isfinite(population_stability(np.array([10.0, 0.0]), np.array([0.0, 10.0])))
    assert information_value(np.array([8e6, 2e6]), np.array([5e6, 5e6])) == pytest.approx(expected, rel=1e-5)


def test_bins_hold_every_row_once() -> None:
    values = np.array([0.0, 1.0, 1.0, 5.0])
    assert bin_counts(values, np.array([1.0, 2.0])).tolist() == [1, 2, 1]


def test_columns_that_say_the_same_are_found() -> None:
    x = related()
    assert list(correlated_pairs(x, 0.8)) == [(0, 1)]
    found = variance_inflation(x)
    r2 = np.corrcoef(x[:, 0], x[:, 1])[0, 1] ** 2
    assert found[0] == pytest.approx(1 / (1 - r2), rel=0.02)
    assert found[2] == pytest.approx(1, abs=0.01)
    assert found[3] == 0
    singular = np.linalg.svd((x[:, :3] - x[:, :3].mean(0)) / x[:, :3].std(0), compute_uv=False)
    assert condition_number(x) == pytest.approx(singular[0] / singular[-1])
    assert condition_number(np.ones((5, 2))) == 1
    copied = np.stack([x[:, 0], x[:, 0]], axis=1)
    assert variance_inflation(copied).min() > 1e6


def test_columns_are_selected_by_filter_wrapper_and_importance() -> None:
    """Column 2 says most about the label, column 0 (or its copy 1) something, column 3 nothing."""
    x = related()
    rng = np.random.default_rng(1)
    y = rng.random(len(x)) < 1 / (1 + np.exp(-3 * x[:, 2] - x[:, 0]))
    train, valid = LabelledRows(x[:4000], y[:4000]), LabelledRows(x[4000:], y[4000:])
    assert select_by_filter(train, valid, 4) == [2, 0]
    assert select_by_filter(train, valid, 1) == [2]
    assert select_by_wrapper(train, valid, 1) == [2]
    assert select_by_wrapper(train, valid, 4) == [0, 1, 2, 3]
    important = select_by_importance(train, valid, 4)
    assert important[0] == 2
    assert 3 not in important
