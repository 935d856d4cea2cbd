"""Columns of a published training set as arrays, for reports and selection; without Spark."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as ds
from numpy.typing import NDArray

from features.catalog import COLUMNS, DENSE
from features.dataset.names import WEIGHT

MAX_ROWS = 500_000  # about 100 MB with the columns of the catalog


Columns = dict[str, NDArray[Any]]
"""{name of a feature, `label` or `weight`: (rows,) values}."""


def read_columns(folder: Path, max_rows: int = MAX_ROWS) -> Columns:
    """Features, `label` and `weight` of the last rows of a split: the newest ones, but where it was drawn at random.

    Weights are around 1, so that sums of them are as good as rows; all are 1 where no rows were sampled.
    """
    names = [f"f_{feature.name}" for feature in COLUMNS]
    dataset = ds.dataset(sorted(str(path) for path in folder.glob("*.parquet")))
    extra = [name for name in ("label", WEIGHT) if name in dataset.schema.names]
    table = dataset.to_table(columns=[*names, *extra]).slice(max(dataset.count_rows() - max_rows, 0))
    columns = {name.removeprefix("f_"): table[name].to_numpy() for name in table.column_names}
    weight = np.asarray(columns.get(WEIGHT, np.ones(len(table))), np.float64)
    return columns | {WEIGHT: weight / weight.mean()}


def dense_matrix(columns: Columns) -> NDArray[np.float32]:
    """(rows, features) the dense features side by side, in the order of DENSE."""
    return np.stack([columns[feature.name] for feature in DENSE], axis=1)
