"""Reads feature data sets for rankers: plain Arrow, columns as arrays, in the order of time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as ds
from numpy.typing import NDArray

from conf import Config, Paths
from conf.versions import current_version
from features.catalog import DENSE, SPARSE
from features.dataset.names import WEIGHT

SPARSE_COLUMNS = [f"f_{feature.name}" for feature in SPARSE]
DENSE_COLUMNS = [f"f_{feature.name}" for feature in DENSE]


@dataclass(frozen=True)
class Rows:
    """`sparse` (n, fields) int64, `dense` (n, features) float32, `label` (n,) float32, `keys`: name -> (n,)."""

    sparse: NDArray[np.int64]
    dense: NDArray[np.float32]
    label: NDArray[np.float32]
    keys: dict[str, Any]


def read_rows(folder: Path, keys: list[str] | None = None) -> Rows:
    """All rows of a data set, in the order of `files_of`."""
    return read_files(files_of(folder), keys)


def files_of(folder: Path) -> list[Path]:
    """Files of a data set in the order of their names, which is the order of time."""
    return sorted(folder.glob("*.parquet"))


def read_files(files: Sequence[Path], keys: list[str] | None = None) -> Rows:
    """All rows of some files; `keys` of the rows have `weight` when the training set was sampled (features.balance)."""
    dataset = ds.dataset([str(path) for path in files])
    keys = [*(keys or []), *({WEIGHT} & set(dataset.schema.names))]
    table = dataset.to_table(columns=[*SPARSE_COLUMNS, *DENSE_COLUMNS, "label", *keys])
    return Rows(
        np.stack([table[name].to_numpy() for name in SPARSE_COLUMNS], axis=1),
        np.stack([table[name].to_numpy() for name in DENSE_COLUMNS], axis=1),
        table["label"].to_numpy(),
        {name: table[name].to_pandas() for name in keys},
    )


def examples_folder(config: Config, day: date) -> Path:
    """The published training set of a day. Raises UserError when there is none."""
    return current_version(
        config.get(Paths).datasets("examples", day), command=f"millrace features build --date {day}"
    )[0]


def statistics_of(config: Config, day: date) -> Mapping[str, Any]:
    """What the training rows of a day's training set taught: means and deviations, click rates."""
    version = current_version(
        config.get(Paths).datasets("examples", day), command=f"millrace features build --date {day}"
    )[1]
    statistics: Mapping[str, Any] = version["statistics"]
    return statistics


def candidates_folder(config: Config, day: date) -> Path:
    """The published candidates of a day. Raises UserError when there are none."""
    return current_version(
        config.get(Paths).datasets("candidates", day), command=f"millrace recsys recall --date {day}"
    )[0]
