"""Transforms that learn from training rows on Spark and apply anywhere: to a Spark column, an array, or one request.

Each is a frozen value: `fit(rows, column, …)` makes it from a DataFrame of training rows, or a literal makes it by
hand; `transform` maps an array (n,) to (n,) or (n, width); `on_spark` adds the same as a column. What was learned is
the fields, so `to_json` and `from_json` keep it beside a model. What is offline and what is online is the same code.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.functions import pandas_udf  # type: ignore[attr-defined]
from pyspark.sql.types import ArrayType, DoubleType

from features.transforms.numbers import Arctan, Log, MinMax, Missing, Quantile, Standardise, TimeSince, Whiten
from features.transforms.rates import SmoothedRate
from features.transforms.values import Cross, Hashing, LastItems, MultiValued, OneHot, Vocabulary

__all__ = [
    "Arctan", "Cross", "Hashing", "LastItems", "Log", "MinMax", "Missing", "MultiValued", "OneHot", "Quantile",
    "SmoothedRate", "Standardise", "TimeSince", "Transform", "Vocabulary", "Whiten", "from_json", "on_spark", "to_json",
]  # fmt: skip

KINDS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        Arctan, Cross, Hashing, LastItems, Log, MinMax, Missing, MultiValued, OneHot, Quantile, SmoothedRate,
        Standardise, TimeSince, Vocabulary, Whiten,
    )
}  # fmt: skip


class Transform(Protocol):
    """What all of them can do."""

    def transform(self, values: Any) -> NDArray[Any]:
        """(n,) values, or (n, columns) of those that take several, -> (n,) or (n, width)."""


def on_spark(rows: DataFrame, columns: str | Sequence[str], transform: Transform, name: str) -> DataFrame:
    """`rows` with a column `name` of what `transform` makes of a column, or of several side by side.

    Numbers come as double, rows of several as array<double>.
    """
    several = [columns] if isinstance(columns, str) else list(columns)
    # What one row becomes tells the type.
    empty: Any = np.empty((0, len(several))) if not isinstance(columns, str) else np.empty(0)
    is_wide = transform.transform(empty).ndim > 1

    def apply(frame: pd.DataFrame) -> pd.Series:
        values = frame[several[0]] if isinstance(columns, str) else frame[several]
        found = np.asarray(transform.transform(values.to_numpy()), np.float64)
        return pd.Series(list(found) if is_wide else found)

    made = pandas_udf(apply, ArrayType(DoubleType()) if is_wide else DoubleType())
    return rows.withColumn(name, made(F.struct(*several)))


def to_json(transform: Transform) -> str:
    """The kind and what was learned."""
    return json.dumps({"kind": type(transform).__name__, **asdict(transform)})  # type: ignore[call-overload]


def from_json(text: str) -> Transform:
    """Raises ValueError for an unknown kind."""
    made: Transform = _made(json.loads(text))
    return made


def _made(values: dict[str, Any]) -> Any:
    kind = KINDS.get(str(values.get("kind")))
    if kind is None:
        raise ValueError(f"no transform is called '{values.get('kind')}'; choose from {', '.join(KINDS)}")
    given = {field.name: values[field.name] for field in fields(kind)}
    if isinstance(given.get("vocabulary"), dict):
        given["vocabulary"] = Vocabulary(tuple(given["vocabulary"]["values"]))
    return kind(**{name: _frozen(value) for name, value in given.items()})


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
