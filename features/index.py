"""Keeps the feature index stable: `dim_feature_index` grows at the end; a changed or moved definition is refused."""

from datetime import date

from conf import UserError
from etl.tables import dim
from etl.warehouse.store import Warehouse
from features.catalog import FEATURES


def update_index(warehouse: Warehouse, day: date) -> int:
    """Compare the catalog with the newest index, then write it as the snapshot of `day`; returns how many are new."""
    known = _newest(warehouse)
    now = {feature.name: (i, feature.definition) for i, feature in enumerate(FEATURES)}
    refuse_changes(known, now)
    rows = [(f.name, i, f.kind, f.definition, f.description, day.isoformat()) for i, f in enumerate(FEATURES)]
    columns = [*dim.feature_index.column_names, "dt"]
    frame = warehouse.spark.createDataFrame(rows, columns)
    warehouse.write(dim.feature_index, frame, [day])
    return len(now) - len(known)


def refuse_changes(known: dict[str, tuple[int, str]], now: dict[str, tuple[int, str]]) -> None:
    """Raises UserError that shows every known feature (name -> index, definition) that is gone, moved or changed."""
    problems = []
    for name, (index, definition) in known.items():
        if name not in now:
            problems.append(f"'{name}' (index {index}) is gone")
        elif now[name] != (index, definition):
            problems.append(f"'{name}' was {index}: {definition}, is {now[name][0]}: {now[name][1]}")
    if problems:
        raise UserError(
            f"the feature index must not change: {'; '.join(problems)}. Append a new feature under a new name instead"
        )


def _newest(warehouse: Warehouse) -> dict[str, tuple[int, str]]:
    days = warehouse.partitions(dim.feature_index)
    if not days:
        return {}
    rows = warehouse.read(dim.feature_index, [date.fromisoformat(max(days))]).collect()
    return {row["feature"]: (row["index"], row["definition"]) for row in rows}
