"""Features of many candidates at once equal those of one row at a time, without Spark."""

import math
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from conf import UserError
from features.catalog import COLUMNS, DENSE, SPARSE
from features.compute.request_batch import ITEM_FEATURES, BatchFeatures
from features.compute.request_rows import RequestFeatures
from features.compute.training_statistics import TrainingStatistics
from features.counts.count_arrays import (
    NEVER,
    CategoryCounts,
    CountArrays,
    Impressions,
    UserCounts,
    count_columns,
    count_impressions,
)
from features.counts.counts_before import ClickRates
from features.counts.running_counts import RunningCounts
from features.transforms.columns import Moments, Texts, compile_expression
from features.transforms.expressions import evaluate

TOPICS = ["b", "a", "d", "c"]
USERS, ITEMS, FIRST = 20, 30, date(2026, 4, 1)
RATES = ClickRates(0.3, {1: 0.5, 2: 0.25}, 20.0)
STATISTICS = replace(
    TrainingStatistics.from_rates(RATES),
    mean={f.name: 0.25 for f in DENSE},
    deviation={f.name: 1.5 for f in DENSE},
    timezone="America/New_York",
)
# Some items have no topic, no author or no moment; the last ones are in no dimension.
CATEGORY = [i % 5 if i % 5 < 4 and i < 27 else 4 for i in range(ITEMS)]
PUBLISHED = [datetime(2026, 3, 20 + i % 9, i % 24, tzinfo=UTC) if i % 4 and i < 27 else None for i in range(ITEMS)]
PROFILES = {f"u{u}": {"gender": "FM"[u % 2], "age_group": None, "city": f"city {u % 3}"} for u in range(15)}


def item_columns() -> dict[str, Any]:
    wall = [
        math.nan if at is None else (at.timestamp() - (5 if at < datetime(2026, 3, 8, 7, tzinfo=UTC) else 4) * 3600)
        for at in PUBLISHED
    ]
    authors = [f"a{i % 3}" if i < 27 else None for i in range(ITEMS)]
    return {
        "item_id": Texts([f"i{i}" for i in range(ITEMS)], np.arange(ITEMS)),
        "category": Texts([*TOPICS, None], np.array(CATEGORY)),
        "author": Texts(authors, np.arange(ITEMS)),
        "published_at": Moments(np.array(wall)),
    }


@pytest.fixture(scope="module")
def counted() -> tuple[RunningCounts, CountArrays]:
    """The same random impressions, counted in both ways."""
    rng, rows = np.random.default_rng(3), 3000
    days = np.sort(rng.integers(0, 5, rows))
    user, item = rng.integers(0, USERS - 1, rows), rng.integers(0, ITEMS - 1, rows)  # one of each was never shown
    position = np.where(rng.random(rows) < 0.1, np.nan, rng.integers(1, 5, rows))
    label = (rng.random(rows) < 0.2).astype(int)
    running = RunningCounts(RATES)
    for n in range(rows):
        category = CATEGORY[item[n]]
        running.add(
            {
                "user_id": f"u{user[n]}",
                "item_id": f"i{item[n]}",
                "category": None if category == 4 else TOPICS[category],
                "position": None if math.isnan(position[n]) else int(position[n]),
                "day": FIRST + timedelta(days=int(days[n])),
                "label": int(label[n]),
            }
        )
    of_item = np.array(CATEGORY)[item]
    arrays = Impressions(user, item, of_item, position, days + FIRST.toordinal() - 719163, label)
    return running, count_impressions(arrays, USERS, ITEMS, len(TOPICS), RATES)


@pytest.mark.parametrize("user", range(USERS))
def test_the_candidates_of_a_user_have_the_features_of_single_rows(
    user: int, counted: tuple[RunningCounts, CountArrays]
) -> None:
    running, counts = counted
    at = datetime(2026, 4, 7, 3, 30, tzinfo=UTC)  # 23:30 of the day before in New York
    shared = {"user_id": f"u{user}", "at": at, "position": 1, "device": None if user % 2 else "phone"}
    authors = [f"a{i % 3}" if i < 27 else None for i in range(ITEMS)]
    topics = [*TOPICS, None]
    items = {
        f"i{i}": {"category": topics[CATEGORY[i]], "author": authors[i], "published_at": PUBLISHED[i]}
        for i in range(ITEMS)
    }
    single = RequestFeatures(STATISTICS, running, PROFILES, items)

    pairs = slice(*counts.user_offsets[user : user + 2].tolist())
    last = int(counts.last_click[user])
    of_user = UserCounts(
        *counts.users[:, user].tolist(),
        last_click=None if last == NEVER else date.fromordinal(last + 719163),
        categories=counts.user_categories[pairs],
        sums=counts.pairs[:, pairs],
    )
    categories = CategoryCounts.of(topics, counts.categories, np.array([float(counts.num_shown)]))
    profile = PROFILES.get(f"u{user}", {})
    row = {
        **item_columns(),
        **{name: profile.get(name) for name in ("gender", "age_group", "city")},
        **count_columns(of_user, categories, np.array(CATEGORY), counts.items, RATES),
        **shared,
        "at": datetime(2026, 4, 6, 23, 30),
    }
    features = BatchFeatures(STATISTICS)
    batch = features.compute(row, ITEMS)
    for n in range(ITEMS):
        expected = single.unscaled({**shared, "item_id": f"i{n}"})
        assert batch.row(n) == {f.name: approximately(expected[f.name]) for f in COLUMNS}
        scaled = single.scaled({**shared, "item_id": f"i{n}"})
        assert batch.dense[n].tolist() == pytest.approx([scaled[f.name] for f in DENSE], rel=1e-6, abs=1e-6)
    ids = features.item_ids(item_columns(), ITEMS)
    assert set(ids) == {f.name for f in ITEM_FEATURES} == {"item_id", "category", "author"}
    again = features.compute(row, ITEMS, ids)
    assert (again.sparse == batch.sparse).all()
    assert len(SPARSE) == batch.sparse.shape[1]


def approximately(value: Any) -> Any:
    return pytest.approx(value, rel=1e-6, abs=1e-6) if isinstance(value, float) else value


ROWS: list[dict[str, Any]] = [
    {"x": 2.0, "y": 0.0, "t": "a", "s": "q", "at": datetime(2026, 4, 1, 5), "one": 3},
    {"x": None, "y": -4.0, "t": None, "s": "q", "at": None, "one": 3},
    {"x": -3.5, "y": 2.0, "t": "a", "s": "r", "at": datetime(2026, 3, 31, 23, 59), "one": 3},
    {"x": 0.0, "y": None, "t": "b", "s": None, "at": datetime(1969, 12, 31, 23), "one": 3},
]


@pytest.mark.parametrize(
    "expression",
    [
        "x + y * 2 - one",
        "x / y",
        "one / x",
        "x / 0",
        "-x",
        "ln(x)",
        "log1p(x) + exp(y)",
        "exp(x * 1000)",
        "sign(x) * log1p(abs(x))",
        "coalesce(x, y, 7)",
        "coalesce(x, 0) + one",
        "coalesce(t, 'none')",
        "coalesce(t, s)",
        "greatest(x, y, 1)",
        "isnull(x) + isnull(t)",
        "concat(one, '|', t)",
        "concat(t, '|', s, one)",
        "hour(at)",
        "datediff(at, at)",
        "datediff(at, at) + one",
        "one * 2",
    ],
)
def test_an_expression_over_columns_is_that_of_each_row(expression: str) -> None:
    def number(value: Any) -> float:
        return math.nan if value is None else value

    def wall(at: datetime | None) -> float:
        return math.nan if at is None else (at - datetime(1970, 1, 1)).total_seconds()

    columns: dict[str, Any] = {
        "x": np.array([number(row["x"]) for row in ROWS]),
        "y": np.array([number(row["y"]) for row in ROWS]),
        "t": Texts(["a", None, "b"], np.array([0, 1, 0, 2])),
        "s": Texts(["q", "r", None, "never"], np.array([0, 0, 1, 2])),
        "at": Moments(np.array([wall(row["at"]) for row in ROWS])),
        "one": 3,
    }
    value = compile_expression(expression)(columns)
    if isinstance(value, Texts):
        values = [value.values[code] for code in value.codes]
    elif isinstance(value, np.ndarray):
        values = [None if math.isnan(one) else one for one in value.tolist()]
    else:
        values = [value] * len(ROWS)
    expected = [evaluate(expression, row) for row in ROWS]
    assert values == [one if one is None or isinstance(one, str) else pytest.approx(one) for one in expected]


@pytest.mark.parametrize("expression", ["x % 2", "sqrt(x)", "x.y"])
def test_an_unknown_part_is_refused_when_it_is_compiled(expression: str) -> None:
    with pytest.raises(UserError, match="is no column or function of the catalog"):
        compile_expression(expression)


def test_an_unknown_column_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="'nobody'"):
        compile_expression("nobody + 1")({"x": 1})
