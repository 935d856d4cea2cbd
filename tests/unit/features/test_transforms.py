"""Transforms on arrays and expressions on one row; their fits on Spark are in the integration tests."""

import math
from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pytest

from conf import UserError
from features.catalog import FEATURES
from features.transforms import EXPRESSIONS, FITTED, transformed_source
from features.transforms.expressions import evaluate
from features.transforms.hashing import hash_bucket
from features.transforms.numeric import Arctan, Quantile
from features.transforms.vocabulary import Vocabulary

NAN = float("nan")


def test_every_transform_that_the_catalog_names_exists() -> None:
    assert {feature.transform for feature in FEATURES if feature.kind == "dense"} <= {*EXPRESSIONS, *FITTED}
    assert not {*EXPRESSIONS} & {*FITTED}


def test_expressions_of_known_numbers() -> None:
    def transformed(transform: str, x: float | None) -> float | None:
        value: float | None = evaluate(transformed_source("f", transform, "x"), {"x": x})
        return value

    assert transformed("identity", 3.5) == 3.5
    assert transformed("log1p", math.e - 1) == pytest.approx(1)
    assert transformed("log1p", -1.0) is None
    assert [transformed("signed_log", x) for x in (0.0, math.e - 1, 1 - math.e)] == pytest.approx([0, 1, -1])
    assert transformed("exp", 1.0) == pytest.approx(math.e)
    assert transformed("exp", 1e6) == math.inf
    assert all(transformed(name, None) is None for name in EXPRESSIONS)


def test_expressions_treat_null_as_sql_does() -> None:
    row = {
        "a": None,
        "b": 2,
        "at": datetime(2026, 4, 1, 23, tzinfo=timezone(timedelta(hours=-2))),
        "born": date(2026, 4, 1),
    }
    assert evaluate("coalesce(a, b) * -3 + 1", row) == -5
    assert evaluate("a + b", row) is None
    assert evaluate("b / 0", row) is None
    assert evaluate("greatest(a, b, 1)", row) == 2
    assert [evaluate(f"isnull({name})", row) for name in "ab"] == [True, False]
    assert evaluate("concat(b, '|', 'x')", row) == "2|x"
    assert evaluate("concat(b, a)", row) is None
    assert evaluate("hour(at)", row) == 1
    assert evaluate("datediff(at, born)", row) == 1
    assert evaluate("datediff(at, born)", {**row, "at": datetime(2026, 4, 3, 1, tzinfo=UTC)}) == 2
    with pytest.raises(UserError, match=r"'open\('x'\)'.*functions: ln"):
        evaluate("open('x')", row)
    with pytest.raises(UserError, match="'unknown'"):
        evaluate("unknown + 1", row)


def test_hours_and_days_of_an_expression_are_those_of_the_zone() -> None:
    """New York's clocks go back on 2026-11-01 at 06:00 UTC, and skip the hour from 2 on 2026-03-08 at 07:00 UTC."""
    for at, hour, days in (
        ("2026-11-01T03:59:59+00:00", 23, 0),
        ("2026-11-01T04:00:00+00:00", 0, 1),
        ("2026-11-01T05:30:00+00:00", 1, 1),
        ("2026-11-01T06:30:00+00:00", 1, 1),
        ("2026-11-02T04:59:59+00:00", 23, 1),
        ("2026-11-02T05:00:00", 0, 2),  # without a zone it is UTC
        ("2026-11-01T22:00:00-05:00", 22, 1),
    ):
        row = {"at": datetime.fromisoformat(at), "born": date(2026, 10, 31)}
        assert evaluate("hour(at)", row, "America/New_York") == hour, at
        assert evaluate("datediff(at, born)", row, "America/New_York") == days, at
        born = {**row, "born": datetime(2026, 11, 1, 3, 59)}  # the same day, by the clock
        assert evaluate("datediff(at, born)", born, "America/New_York") == days, at
    spring = [datetime(2026, 3, 8, hour, 59, 59) for hour in (6, 7)]
    assert [evaluate("hour(at)", {"at": at}, "America/New_York") for at in spring] == [1, 3]


def test_the_arctan_of_the_scale_is_one_half() -> None:
    np.testing.assert_allclose(Arctan(2).transform([0, 2, -2, NAN, None]), [0, 0.5, -0.5, NAN, NAN])


def test_quantiles_are_shares_of_training_rows_and_ties_get_the_middle() -> None:
    uniform = Quantile(tuple(np.linspace(0, 10, 11)))
    np.testing.assert_allclose(uniform.transform([-5, 0, 2.5, 10, 11, NAN]), [0, 0, 0.25, 1, 1, NAN])
    tied = Quantile((0.0, 0.0, 0.0, 5.0, 10.0))
    np.testing.assert_allclose(tied.transform([0, 5, 10]), [0.25, 0.75, 1])
    np.testing.assert_allclose(tied.transform(["5", "what", None]), [0.75, NAN, NAN])


def test_vocabularies_tell_missing_and_unknown_values_apart() -> None:
    words = Vocabulary(("often", "seldom"))
    assert words.transform(["often", "seldom", "never", None, NAN]).tolist() == [2, 3, 1, 0, 0]


def test_hashes_are_stable_spread_and_differ_by_feature() -> None:
    values = [f"v{i}" for i in range(10_000)]
    ids = np.array([hash_bucket(0, value, 101) for value in values])
    assert ids[0] == hash_bucket(0, "v0", 101)
    counts = np.bincount(ids, minlength=101)
    assert counts[0] == 0
    assert counts[1:].min() > 50
    assert np.mean([hash_bucket(1, value, 101) for value in values] != ids) > 0.9


def test_numbers_are_their_own_ids_and_all_else_is_hashed() -> None:
    ids = [hash_bucket(0, value, 101, is_number=True) for value in (0, "1", 7, "99")]
    assert ids == [1, 2, 8, 100]
    hashed = ("100", "007", "-1", "1.0", "1e1", "", "٣", 10**30)  # the last digits are Arabic
    assert [hash_bucket(0, value, 101, is_number=True) for value in hashed] == [
        hash_bucket(0, value, 101) for value in hashed
    ]
