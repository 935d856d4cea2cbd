"""Columns of a published training set as arrays, for reports and selection; without Spark."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as ds
from numpy.typing import NDArray

from features.catalog import COLUMNS, DENSE

MAX_ROWS = 500_000  # about 100 MB with the columns of the catalog


def read_columns(folder: Path, max_rows: int = MAX_ROWS) -> dict[str, NDArray[Any]]:
    """{feature: (rows,) values}, and `label`, of the newest rows of a split, in the order of time."""
    names = [f"f_{feature.name}" for feature in COLUMNS]
    dataset = ds.dataset(sorted(str(path) for path in folder.glob("*.parquet")))
    # Files are in the order of time, so the newest rows are the last.
    table = dataset.to_table(columns=[*names, "label"]).slice(max(dataset.count_rows() - max_rows, 0))
    return {name.removeprefix("f_"): table[name].to_numpy() for name in table.column_names}


def dense_matrix(columns: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    """(rows, features) the dense features side by side, in the order of DENSE."""
    return np.stack([columns[feature.name] for feature in DENSE], axis=1)
