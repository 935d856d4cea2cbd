"""Transforms on arrays, against other implementations; their fits on Spark are in the integration tests."""

import math

import numpy as np
import pytest

from features.transforms import (
    Arctan,
    Cross,
    Hashing,
    LastItems,
    Log,
    MinMax,
    Missing,
    MultiValued,
    OneHot,
    Quantile,
    SmoothedRate,
    Standardise,
    TimeSince,
    Vocabulary,
    Whiten,
    from_json,
    to_json,
)

NAN = float("nan")
WORDS = Vocabulary(("often", "seldom"))


def test_scaling_of_known_numbers() -> None:
    np.testing.assert_allclose(MinMax(10, 20).transform([10, 15, 25, NAN]), [0, 0.5, 1, NAN])
    np.testing.assert_allclose(MinMax(10, 20, -1, 1).transform([10, 15, 20]), [-1, 0, 1])
    np.testing.assert_allclose(MinMax(3, 3).transform([3.0]), [0])
    np.testing.assert_allclose(Standardise(5, 2).transform([5, 9]), [0, 2])
    np.testing.assert_allclose(Standardise(5, 0).transform([5]), [0])
    np.testing.assert_allclose(Log().transform([0, math.e - 1, 1 - math.e]), [0, 1, -1])
    np.testing.assert_allclose(Arctan(2).transform([0, 2, -2]), [0, 0.5, -0.5])
    np.testing.assert_allclose(TimeSince(3600).transform([[0, 7200], [7200, 0], [NAN, 1]]), [2, NAN, NAN])


def test_quantiles_are_shares_of_training_rows_and_ties_get_the_middle() -> None:
    uniform = Quantile(tuple(np.linspace(0, 10, 11)))
    np.testing.assert_allclose(uniform.transform([-5, 0, 2.5, 10, 11, NAN]), [0, 0, 0.25, 1, 1, NAN])
    tied = Quantile((0.0, 0.0, 0.0, 5.0, 10.0))
    np.testing.assert_allclose(tied.transform([0, 5, 10]), [0.25, 0.75, 1])
    assert Quantile((0.0, 1.0, 2.0, 3.0)).bins([0.5, 1, 2.5, NAN]).tolist() == [1, 2, 3, 0]


def test_missing_values_are_filled_and_can_be_told() -> None:
    np.testing.assert_allclose(Missing(3).transform([1, NAN, float("inf"), None]), [1, 3, 3, 3])
    np.testing.assert_allclose(Missing(3, flag=True).transform([1, NAN]), [[1, 0], [3, 1]])
    np.testing.assert_allclose(Missing(0).transform(["1.5", "what", None]), [1.5, 0, 0])


def test_vocabularies_know_missing_and_unknown_values() -> None:
    assert WORDS.transform(["often", "seldom", "never", None, NAN]).tolist() == [2, 3, 1, 0, 0]
    assert WORDS.size == 4
    assert OneHot(WORDS).transform(["seldom", "never", None]).tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 0]]
    assert MultiValued(WORDS, 2).transform([["seldom", "often", "often"], [], None]).tolist() == [
        [3, 2],
        [0, 0],
        [0, 0],
    ]
    assert LastItems(WORDS, 2).transform([["often", "never", "seldom"], ["often"]]).tolist() == [[1, 3], [2, 0]]


def test_hashes_are_stable_spread_and_differ_by_seed() -> None:
    values = [f"v{i}" for i in range(10_000)]
    ids = Hashing(101).transform([*values, None])
    assert ids[-1] == 0
    counts = np.bincount(ids[:-1], minlength=101)
    assert counts[0] == 0
    assert counts[1:].min() > 50
    assert (Hashing(101, seed=1).transform(values) != ids[:-1]).mean() > 0.9
    crossed = Cross(101).transform([("a", "b"), ("a", "b"), ("ab", ""), ("a", None)])
    assert crossed[0] == crossed[1] == Hashing(101).transform(["a|b"])[0]
    assert crossed[3] == 0


def test_rates_are_pulled_to_the_prior_the_more_the_less_was_shown() -> None:
    rate = SmoothedRate(2, 8)
    np.testing.assert_allclose(rate.transform([[0, 0], [1, 1], [100, 1000]]), [0.2, 3 / 11, 102 / 1010])
    np.testing.assert_allclose(rate.transform([[-5, -1], [NAN, NAN]]), [0.2, 0.2])


@pytest.mark.parametrize(
    "transform",
    [
        MinMax(0, 2), Standardise(1, 2), Log(), Arctan(2), Quantile((0.0, 1.0)), Missing(1, flag=True), WORDS,
        OneHot(WORDS), Hashing(9), Cross(9), MultiValued(WORDS, 2), LastItems(WORDS, 2), SmoothedRate(1, 2),
        TimeSince(), Whiten((0.0, 1.0), ((1.0,), (2.0,))),
    ],
    ids=lambda transform: type(transform).__name__,
)  # fmt: skip
def test_what_was_learned_survives_as_json(transform: object) -> None:
    assert from_json(to_json(transform)) == transform  # type: ignore[arg-type]


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="no transform is called 'Magic'"):
        from_json('{"kind": "Magic"}')
