"""Keeps the feature index stable: `dim_feature_index` grows at the end; a changed or moved definition is refused."""

from datetime import date

from conf import UserError
from etl.tables import dim
from etl.warehouse.store import Warehouse
from features.catalog import FEATURES

# Name of a feature -> (index, definition).
FeatureIndex = dict[str, tuple[int, str]]


def update_feature_index(warehouse: Warehouse, day: date) -> int:
    """Write the catalog as the index of `day`; returns how many features are new.

    Raises:
        UserError: when a feature of the newest index is changed, moved or missing in the catalog.
    """
    indexed = _newest_index(warehouse)
    catalog = {feature.name: (i, feature.definition) for i, feature in enumerate(FEATURES)}
    check_unchanged(indexed, catalog)
    rows = [(f.name, i, f.kind, f.definition, f.description, day.isoformat()) for i, f in enumerate(FEATURES)]
    frame = warehouse.spark.createDataFrame(rows, [*dim.feature_index.column_names, "dt"])
    # A snapshot a day, so that a model can be read with the index of its own day.
    warehouse.write(dim.feature_index, frame, [day])
    return len(catalog) - len(indexed)


def check_unchanged(indexed: FeatureIndex, catalog: FeatureIndex) -> None:
    """Refuse a catalog in which an indexed feature is missing, moved or defined otherwise.

    Raises:
        UserError: that names every such feature, with what it was and what it is.
    """
    problems = []
    for name, (index, definition) in indexed.items():
        if name not in catalog:
            # Its index would be used again, and weights of models would stand for another feature.
            problems.append(f"'{name}' (index {index}) is gone")
        elif catalog[name] != (index, definition):
            problems.append(f"'{name}' was {index}: {definition}, is {catalog[name][0]}: {catalog[name][1]}")
    if problems:
        raise UserError(
            f"the feature index must not change: {'; '.join(problems)}. Append a new feature under a new name instead"
        )


def _newest_index(warehouse: Warehouse) -> FeatureIndex:
    days = warehouse.partitions(dim.feature_index)
    if not days:
        return {}
    rows = warehouse.read(dim.feature_index, [date.fromisoformat(max(days))]).collect()
    return {row["feature"]: (row["index"], row["definition"]) for row in rows}
