"""The features of one request, without Spark: the catalog's definitions over what was known when the day began.

`Known` counts impressions as `features/counts/known.py` does; `row` evaluates each definition; tests hold both routes
equal.
What was computed can be logged with the impression (field `features` of its event) and is then used as it was.
"""

import ast
import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from features.catalog import COLUMNS, Dense, Feature, index_of
from features.counts.known import GROUPS, LIKED_STRENGTH, NUM_TAGS, TAG_STRENGTH, Rates
from features.transforms import Vocabulary
from features.transforms.hashing import bucket
from features.transforms.offline import Statistics

Row = Mapping[str, Any]


@dataclass
class Tally:
    """Sums of one key."""

    shown: int = 0
    clicks: int = 0
    expected: float = 0.0


class Known:
    """Counts of finished days, by item, user, topic, and user × topic. Add impressions in the order of their days."""

    def __init__(self, rates: Rates) -> None:
        self._rates = rates
        self._counts: dict[str, dict[tuple[Any, ...], Tally]] = {group: defaultdict(Tally) for group in GROUPS}
        self._topics: dict[Any, set[Any]] = defaultdict(set)
        self._last_click: dict[Any, date] = {}

    def add(self, shown: Row) -> None:
        """Count an impression: user_id, item_id, category, position, day, label."""
        expected = self._rates.by_position.get(shown["position"], self._rates.prior)
        for group, keys in GROUPS.items():
            key = tuple(shown[name] for name in keys)
            if None in key:  # as in SQL, nothing equals a missing value
                continue
            tally = self._counts[group][key]
            tally.shown += 1
            tally.clicks += shown["label"]
            tally.expected += expected
        if shown["category"] is not None:
            self._topics[shown["user_id"]].add(shown["category"])
        if shown["label"]:
            self._last_click[shown["user_id"]] = shown["day"]

    def about(self, user_id: Any, item_id: Any, category: Any) -> dict[str, Any]:
        """The columns that `with_counts` adds, for one pair; None for what is not known."""
        values = {"item_id": item_id, "user_id": user_id, "category": category}
        found: dict[str, Any] = {"user_last_click": self._last_click.get(user_id), "prior_rate": self._rates.prior}
        for group, keys in GROUPS.items():
            tally = self._counts[group].get(tuple(values[name] for name in keys))
            for name in ("shown", "clicks", "expected"):
                found[f"{group}_{name}"] = getattr(tally, name) if tally else None
        found["category_share"] = self._share(category)
        return found | self._tags(user_id)

    def _share(self, category: Any) -> float | None:
        tally = self._counts["category"].get((category,))
        return tally.shown / self._counts["all"][()].shown if tally else None

    def _tags(self, user_id: Any) -> dict[str, Any]:
        lifts, liked = [], []
        total = self._counts["user"][user_id,].shown if self._topics[user_id] else 0
        for category in self._topics[user_id]:
            share, mine = self._share(category) or 1.0, self._counts["user_category"][user_id, category]
            everyone = self._counts["category"][category,]
            lift = (mine.shown + TAG_STRENGTH * share) / (total + TAG_STRENGTH) / share
            usual = LIKED_STRENGTH * everyone.clicks / everyone.expected
            lifts.append((-round(lift, 9), category))
            liked.append((-round((mine.clicks + usual) / (mine.expected + LIKED_STRENGTH), 9), category))
        best = [category for _, category in sorted(lifts)[:NUM_TAGS]] + [None] * NUM_TAGS
        tags = {f"user_tag{n + 1}": best[n] for n in range(NUM_TAGS)}
        return tags | {"user_liked_tag": min(liked)[1] if liked else None}


@dataclass(frozen=True)
class OnlineFeatures:
    """Computes rows of features as the training set of `statistics` has them."""

    statistics: Statistics
    known: Known
    prior_strength: float
    users: Mapping[Any, Row] = field(default_factory=dict)
    items: Mapping[Any, Row] = field(default_factory=dict)

    def raw(self, request: Row) -> dict[str, float | int | str | None]:
        """Every feature by name, dense ones as they are before scaling: its numbers are what an impression may log.

        `request` has user_id, item_id, at (datetime, UTC), position and device. Unknown users and items are welcome.
        """
        user, item = self.users.get(request["user_id"], {}), self.items.get(request["item_id"], {})
        row = {name: user.get(name) for name in ("gender", "age_group", "city")}
        row |= {name: item.get(name) for name in ("category", "author", "published_at")}
        row |= self.known.about(request["user_id"], request["item_id"], row["category"])
        row |= {"prior_strength": self.prior_strength, **request}
        return {feature.name: _value(feature, row) for feature in COLUMNS}

    def row(self, request: Row) -> dict[str, float | int]:
        """Every feature by name as models read it: ids, and standardised numbers."""
        raw = self.raw(request)
        return {feature.name: self._scaled(feature, raw[feature.name]) for feature in COLUMNS}

    def _scaled(self, feature: Feature, value: Any) -> float | int:
        if isinstance(feature, Dense):
            if value is None or not math.isfinite(value):
                value = feature.default
            mean, deviation = self.statistics.mean[feature.name], self.statistics.deviation[feature.name]
            return 0.0 if value is None else float(np.float32((value - mean) / deviation))
        if feature.at_least:
            return int(self._vocabularies[feature.name].transform([value])[0])
        return int(value or 0)

    @cached_property
    def _vocabularies(self) -> dict[str, Vocabulary]:
        return {name: Vocabulary(tuple(values)) for name, values in self.statistics.vocabulary.items()}


def _value(feature: Feature, row: Row) -> float | int | str | None:
    value = evaluate(feature.source, row)
    if isinstance(feature, Dense):
        value = None if value is None else TRANSFORMS[feature.transform](value)
        return None if value is None else float(np.float32(value))
    if feature.at_least:
        return None if value is None else str(value)
    return 0 if value is None else bucket(index_of(feature), value, feature.buckets)


def _log1p(value: float) -> float | None:
    return math.log1p(value) if value > -1 else None


TRANSFORMS: dict[str, Callable[[float], float | None]] = {
    "identity": lambda value: value,
    "log1p": _log1p,
    "arctan": math.atan,
}


def _datediff(end: date, start: date) -> int:
    return (_day(end) - _day(start)).days


def _day(moment: date) -> date:
    if isinstance(moment, datetime):
        return moment.astimezone(UTC).date() if moment.tzinfo else moment.date()
    return moment


# What sources may call, as in Spark SQL. Except coalesce and greatest, all give null for a null.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "ln": lambda x: math.log(x) if x > 0 else None,
    "concat": lambda *parts: "".join(str(part) for part in parts),
    "hour": lambda at: (at.astimezone(UTC) if at.tzinfo else at).hour,
    "datediff": _datediff,
}
SKIP_NULLS: dict[str, Callable[..., Any]] = {
    "coalesce": lambda *values: next(iter(values), None),
    "greatest": lambda *values: max(values, default=None),
}
OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b if b else None,
}


def evaluate(source: str, row: Row) -> Any:
    """A catalog's source over `row`, with SQL's nulls (None). Raises ValueError for what sources may not say."""
    return _evaluate(_parsed(source), row, source)


@lru_cache(maxsize=1024)
def _parsed(source: str) -> ast.expr:
    return ast.parse(source, mode="eval").body


def _evaluate(node: ast.expr, row: Row, source: str) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name) if name in row:
            return row[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            value = _evaluate(operand, row, source)
            return None if value is None else -value
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            a, b = _evaluate(left, row, source), _evaluate(right, row, source)
            return None if a is None or b is None else OPERATORS[type(op)](a, b)
        case ast.Call(func=ast.Name(id=name), args=given) if name in SKIP_NULLS:
            values = [_evaluate(argument, row, source) for argument in given]
            return SKIP_NULLS[name](*[value for value in values if value is not None])
        case ast.Call(func=ast.Name(id=name), args=given) if name in FUNCTIONS:
            values = [_evaluate(argument, row, source) for argument in given]
            return None if None in values else FUNCTIONS[name](*values)
    raise ValueError(f"a source may not say '{ast.unparse(node)}' (in {source!r}); functions: {', '.join(FUNCTIONS)}")
