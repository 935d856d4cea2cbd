"""What the loop prints of a day: hand-computed Gini coefficients, and intervals of ratios against known truth."""

import math

import numpy as np
import pytest

from dags.loop import gini, ratio_interval
from recsys.experiment.statistics import Sample


@pytest.mark.parametrize(
    ("counts", "num_items", "expected"),
    [([5, 5, 5, 5], 4, 0.0), ([8], 4, 0.75), ([1, 3], 2, 0.25), ([3, 1], 4, 0.625)],
)
def test_gini_is_that_of_the_definition(counts: list[float], num_items: int, expected: float) -> None:
    assert gini(np.array(counts, float), num_items) == pytest.approx(expected)
    every = [*counts, *[0.0] * (num_items - len(counts))]
    differences = np.abs(np.subtract.outer(every, every)).sum()
    assert expected == pytest.approx(differences / (2 * num_items * sum(every)))


def test_intervals_have_the_true_ratio_as_often_as_they_say() -> None:
    rng = np.random.default_rng(4)
    hits, sites, users = 0, 400, 150
    for _ in range(sites):
        arms = []
        for rate in (0.3, 0.15):
            shown = 10 * rng.integers(1, 20, users)
            habit = rng.beta(4 * rate, 4 * (1 - rate), users)
            arms.append(Sample.of(rng.binomial(shown, habit).astype(float), shown.astype(float)))
        low, high = ratio_interval(*arms)
        assert low is not None
        assert high is not None
        hits += low < 2.0 < high
    assert hits / sites == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / sites))


def test_an_arm_without_clicks_or_of_one_user_has_no_interval() -> None:
    shown = np.full(5, 10.0)
    none, some = Sample.of(np.zeros(5), shown), Sample.of(np.arange(5.0), shown)
    single = Sample.of(np.array([3.0]), np.array([10.0]))
    assert ratio_interval(none, some) == ratio_interval(some, none) == ratio_interval(single, some) == (None, None)
