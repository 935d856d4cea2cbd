import numpy as np
import pytest

from features.inspect.report import condition_number, correlated, counted, information, psi, vif
from features.inspect.selection import by_correlation, by_importance, by_variance, forward, without_copies


def related() -> np.ndarray:
    """Column 1 is nearly column 0, column 3 is constant."""
    rng = np.random.default_rng(0)
    a, c = rng.normal(size=(2, 5000))
    return np.stack([a, a + 0.1 * rng.normal(size=5000), c, np.ones(5000)], axis=1)


def test_psi_of_known_counts() -> None:
    assert psi(np.array([50.0, 50.0]), np.array([500.0, 500.0])) == pytest.approx(0, abs=1e-4)
    expected = (0.8 - 0.5) * np.log(0.8 / 0.5) + (0.2 - 0.5) * np.log(0.2 / 0.5)
    assert psi(np.array([5e6, 5e6]), np.array([8e6, 2e6])) == pytest.approx(expected, rel=1e-5)
    assert np.isfinite(psi(np.array([10.0, 0.0]), np.array([0.0, 10.0])))
    assert information(np.array([8e6, 2e6]), np.array([5e6, 5e6])) == pytest.approx(expected, rel=1e-5)


def test_bins_hold_every_row_once() -> None:
    values = np.array([0.0, 1.0, 1.0, 5.0])
    assert counted(values, np.array([1.0, 2.0])).tolist() == [1, 2, 1]
    assert counted(values, np.array([1.0, 2.0]), values > 0).tolist() == [0, 2, 1]


def test_columns_that_say_the_same_are_found() -> None:
    x = related()
    assert list(correlated(x)) == [(0, 1)]
    found = vif(x)
    r2 = np.corrcoef(x[:, 0], x[:, 1])[0, 1] ** 2
    assert found[0] == pytest.approx(1 / (1 - r2), rel=0.02)
    assert found[2] == pytest.approx(1, abs=0.01)
    assert found[3] == 0
    singular = np.linalg.svd((x[:, :3] - x[:, :3].mean(0)) / x[:, :3].std(0), compute_uv=False)
    assert condition_number(x) == pytest.approx(singular[0] / singular[-1])
    assert condition_number(np.ones((5, 2))) == 1
    copied = np.stack([x[:, 0], x[:, 0]], axis=1)
    assert vif(copied).min() > 1e6


def test_columns_are_selected_by_filter_wrapper_and_importance() -> None:
    x = related()
    target = 2 * x[:, 2] + x[:, 0]
    assert by_variance(x) == [0, 1, 2]
    assert by_correlation(x, target, 2) == [2, 0]
    assert without_copies(x) == [0, 2, 3]

    def score(columns: list[int]) -> float:
        chosen = x[:, columns]
        fitted = chosen @ np.linalg.lstsq(chosen, target, rcond=None)[0]
        return float(-np.mean((target - fitted) ** 2))

    assert forward(4, score, least_gain=0.01) == [2, 0]
    assert by_importance([1.0, 90.0, 9.0, 0.0], share=0.99) == [1, 2]
