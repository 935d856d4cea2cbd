"""Keeps the feature index stable: `dim_feature_index` only grows; a changed or moved definition is refused."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

import numpy as np
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from conf import UserError
from conf.site import Dense, SiteError, Sparse
from conf.site.declaration import Fault, did_you_mean, place_of
from conf.site.features import Feature
from etl.tables import dim
from etl.warehouse.store import Warehouse
from features.catalog import (
    BUILT_IN,
    FEATURES,
    HAS_COUNTS,
    OWN,
    OWN_COLUMNS,
    OWN_GROUPS,
    definition_of,
    index_of,
    is_counted,
)
from features.counts.day_sums import SUMS
from features.own_columns import OWN_INDEX
from features.transforms import transformed_source
from features.transforms.columns import Moments, Texts, as_numbers, columns_of, compile_expression
from features.transforms.expressions import evaluate

TEXT_COLUMNS = ("user_id", "item_id", "author", "gender", "age_group", "city", "device")

# Name of a feature -> (index, definition).
FeatureIndex = dict[str, tuple[int, str]]


def update_feature_index(warehouse: Warehouse, day: date) -> int:
    """Write the catalog as the index of `day`; returns how many features are new.

    Own features that the site no longer declares stay in it, so that their names never stand for something else.

    Raises:
        UserError: when a feature of the newest index is changed or moved, or a built-in one is missing in the catalog.
    """
    newest = _newest_index(warehouse)
    indexed: FeatureIndex = {row["feature"]: (row["index"], row["definition"]) for row in newest}
    catalog = {feature.name: (index_of(feature), definition_of(feature)) for feature in FEATURES}
    left_out = set() if HAS_COUNTS else {feature.name for feature in BUILT_IN if is_counted(feature)}
    check_sources(warehouse.spark, OWN)
    check_unchanged({name: entry for name, entry in indexed.items() if name not in left_out}, catalog)
    rows = [(f.name, index_of(f), f.kind, definition_of(f), f.description, day.isoformat()) for f in FEATURES]
    rows += [
        (*[row[name] for name in dim.feature_index.column_names], day.isoformat())
        for row in newest
        if row["feature"] not in catalog
    ]
    frame = warehouse.spark.createDataFrame(rows, [*dim.feature_index.column_names, "dt"])
    # A snapshot a day, so that a model can be read with the index of its own day.
    warehouse.write(dim.feature_index, frame, [day])
    return len(catalog.keys() - indexed.keys())


def check_unchanged(indexed: FeatureIndex, catalog: FeatureIndex) -> None:
    """Refuse a catalog in which an indexed feature is moved or defined otherwise, or a built-in one is missing.

    Raises:
        UserError: that names every such feature, with what it was and what it is.
    """
    problems = []
    for name, (index, definition) in indexed.items():
        if name not in catalog:
            # A built-in one's index would be used again, and weights of models would stand for another feature.
            if index < OWN_INDEX:
                problems.append(f"'{name}' (index {index}) is gone")
        elif catalog[name] != (index, definition):
            problems.append(f"'{name}' was {index}: {definition}, is {catalog[name][0]}: {catalog[name][1]}")
    if problems:
        raise UserError(
            f"the feature index must not change: {'; '.join(problems)}. Append a new feature under a new name instead"
        )


def check_sources(spark: SparkSession, features: Sequence[Feature]) -> None:
    """Check that the sources of own features can be computed, here and on Spark.

    Args:
        spark: the session.
        features: as the site declares them.

    Raises:
        SiteError: one has another column, operator or function than there are, or a type that Spark can't compute
            with; all of them, with their lines.
    """
    types = _column_types()
    rows = spark.createDataFrame([], ", ".join(f"`{name}` {kind}" for name, kind in types.items()))
    faults = [
        Fault(place_of(feature), f'"{feature.name}": {problem}')
        for feature in features
        if (problem := _problem(rows, types, feature))
    ]
    if faults:
        raise SiteError(faults)


def _problem(rows: DataFrame, types: Mapping[str, str], feature: Feature) -> str:
    """What is wrong with a source; empty for nothing."""
    try:
        function = compile_expression(feature.source)
        if unknown := sorted(columns_of(feature.source) - types.keys()):
            return f'no column "{unknown[0]}"{did_you_mean(unknown[0], sorted(types))}'
        transform = feature.transform if isinstance(feature, Dense) else "identity"
        value = F.expr(transformed_source(feature.name, transform, feature.source))
        kind = rows.select(value.alias("value")).schema["value"].dataType.simpleString()
        if isinstance(feature, Sparse) and kind not in ("string", "int", "bigint"):
            # Its text would differ between Spark and the server, and with it the id.
            return f"an id is of texts and whole numbers, and this is {kind}"
        rows.select(value.cast("float")).schema  # noqa: B018 (analysed)
    except SyntaxError as error:
        return f"{error.msg}: {feature.source}"
    except (UserError, AnalysisException) as error:
        return str(error).partition(". SQLSTATE")[0].splitlines()[0]
    try:
        # As the server computes it: with the user's columns alone, and with columns of all candidates.
        evaluate(feature.source, {name: _EXAMPLES[kind][0] for name, kind in types.items()})
        as_numbers_or_texts = function({name: _EXAMPLES[kind][1] for name, kind in types.items()})
        if isinstance(feature, Dense):
            as_numbers(as_numbers_or_texts, 2)
    except (TypeError, ValueError):
        return f"{feature.source} mixes texts and numbers"
    return ""


# Of each type of column, a single value and a column of two rows, as a server has them.
_EXAMPLES: dict[str, tuple[Any, Any]] = {
    "string": ("a", Texts(["a", None], np.array([0, 1]))),
    "double": (1.5, np.array([1.5, np.nan])),
    "int": (1, 1),
    "timestamp": (datetime(2026, 1, 2), Moments(np.array([1.7e9, np.nan]))),
    "date": (date(2026, 1, 1), date(2026, 1, 1)),
}


def _column_types() -> dict[str, str]:
    """Type of every column of a row that a source may name."""
    types = {name: "double" for feature in BUILT_IN for name in columns_of(feature.source)}
    types |= {f"{group}_{name}": "double" for group in OWN_GROUPS for name in SUMS}
    types |= dict.fromkeys((*TEXT_COLUMNS, "category"), "string")
    types |= {name: "string" for name in types if name.startswith(("user_tag", "user_liked_tag"))}
    for column in OWN_COLUMNS.columns:
        types |= dict.fromkeys(column.names, "double" if column.has_numbers else "string")
    return types | {"at": "timestamp", "published_at": "timestamp", "user_last_click": "date", "position": "int"}


def _newest_index(warehouse: Warehouse) -> list[Row]:
    days = warehouse.partitions(dim.feature_index)
    return warehouse.read(dim.feature_index, [date.fromisoformat(max(days))]).collect() if days else []
