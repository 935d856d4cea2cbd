"""Differences between arms: right on a public experiment, and as rarely wrong as they say."""

import gzip
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from recsys.experiment.statistics import Sample, compare, sample_ratio_p_value


@pytest.fixture(scope="module")
def players(real_data: Path) -> dict[str, pd.DataFrame]:
    with gzip.open(real_data / "cookie-cats" / "cookie_cats.csv.gz") as file:
        return dict(iter(pd.read_csv(file).groupby("test_version")))


def test_a_public_experiment_reads_as_published(players: dict[str, pd.DataFrame]) -> None:
    sizes = [len(players[arm]) for arm in ("gate_30", "gate_40")]
    assert sample_ratio_p_value(sizes, [1, 1]) == pytest.approx(0.0086, abs=0.00005)
    control, arm = (Sample.of(players[name].retention_7.to_numpy(float)) for name in ("gate_30", "gate_40"))
    result = compare(control, arm)
    assert result.difference / ((result.high - result.low) / 2 / 1.959964) == pytest.approx(-3.16, abs=0.01)
    assert result.p_value == pytest.approx(0.0016, abs=0.0001)
    assert result.low < result.difference < result.high < 0
    # Read whenever one likes, the same difference says less.
    assert result.p_value < result.sequential_p_value < 0.05


def test_a_mean_is_compared_as_scipy_does() -> None:
    rng = np.random.default_rng(1)
    one, two = rng.gamma(2, size=4000), rng.gamma(2.1, size=5000)
    result = compare(Sample.of(one), Sample.of(two))
    assert result.p_value == pytest.approx(stats.ttest_ind(two, one, equal_var=False).pvalue, rel=0.05)
    assert (result.control, result.arm) == (one.mean(), two.mean())
    assert result.relative == pytest.approx(two.mean() / one.mean() - 1)


def test_a_ratio_has_the_variance_of_its_users() -> None:
    """Rows of a user are alike: a test by rows would be sure of differences that are none."""
    rng = np.random.default_rng(2)
    errors, estimates = [], []
    for _ in range(400):
        shown = rng.integers(1, 40, 300).astype(float)
        clicks = rng.binomial(shown.astype(int), rng.beta(2, 8, 300)).astype(float)
        sample = Sample.of(clicks, shown)
        estimates.append(sample.estimate)
        errors.append(math.sqrt(sample.variance(sample.weights)))
    assert np.mean(errors) == pytest.approx(np.std(estimates), rel=0.1)


def false_alarms(number: int, *, ratio: bool, looks: int = 1) -> tuple[float, float]:
    """Shares of experiments without any difference in which p, and sequential p, fell below .05 at a look."""
    rng = np.random.default_rng(3)
    alarms = np.zeros((number, 2), bool)
    for i in range(number):
        users = 600
        rates = rng.beta(2, 8, 2 * users)
        shown = rng.integers(1, 20, 2 * users)
        clicks = rng.binomial(shown, rates).astype(float)
        base = shown.astype(float) if ratio else None
        for look in range(1, looks + 1):
            last = users * look // looks
            arms = [
                Sample.of(clicks[part], base[part] if base is not None else None)
                for part in (slice(0, last), slice(users, users + last))
            ]
            result = compare(*arms)
            alarms[i] |= (result.p_value < 0.05, result.sequential_p_value < 0.05)
    return float(alarms[:, 0].mean()), float(alarms[:, 1].mean())


@pytest.mark.parametrize("ratio", [False, True])
def test_arms_that_are_alike_are_rarely_told_apart(ratio: bool) -> None:
    once, sequential = false_alarms(500, ratio=ratio)
    assert once <= 0.06
    assert sequential <= once


def test_who_looks_often_needs_the_sequential_value() -> None:
    often, sequential = false_alarms(300, ratio=False, looks=20)
    assert often > 0.1
    assert sequential <= 0.05


def test_what_was_before_narrows_the_interval_and_moves_nothing() -> None:
    rng = np.random.default_rng(4)
    differences, widths = [], []
    for _ in range(300):
        habit = rng.normal(10, 3, 800)
        value = habit + rng.normal(0, 1, 800)
        value[400:] += 0.2
        before = habit + rng.normal(0, 1, 800)
        plain = compare(Sample.of(value[:400]), Sample.of(value[400:]))
        adjusted = compare(Sample.of(value[:400], before=before[:400]), Sample.of(value[400:], before=before[400:]))
        differences.append(adjusted.difference)
        widths.append((adjusted.high - adjusted.low) / (plain.high - plain.low))
        assert adjusted.variance_reduction == pytest.approx(0.81, abs=0.08)
    assert np.mean(differences) == pytest.approx(0.2, abs=0.02)
    assert np.mean(widths) == pytest.approx(math.sqrt(0.19), abs=0.04)


def test_a_real_difference_is_found() -> None:
    rng = np.random.default_rng(5)
    shown = rng.integers(5, 20, 8000)
    clicks = rng.binomial(shown, np.where(np.arange(8000) < 4000, 0.2, 0.23)).astype(float)
    arms = [Sample.of(clicks[part], shown[part].astype(float)) for part in (slice(0, 4000), slice(4000, 8000))]
    result = compare(*arms)
    assert result.low < 0.03 < result.high
    assert result.sequential_p_value < 1e-6


def test_nothing_to_compare_says_nothing() -> None:
    result = compare(Sample.of(np.zeros(5)), Sample.of(np.zeros(5)))
    assert (result.p_value, result.sequential_p_value) == (1.0, 1.0)
    assert math.isnan(compare(Sample.of(np.ones(1)), Sample.of(np.ones(9))).p_value)
    assert math.isnan(Sample.of(np.zeros(3), np.zeros(3)).estimate)
