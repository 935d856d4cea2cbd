"""Scores by every ranker, a block of rows at a time: neither candidates nor their features are ever all in memory."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from conf import Config
from recsys.blend.rankers import Predict, load_rankers, ranker_columns
from recsys.blend.weights import MERGED
from recsys.dataset import Rows, user_blocks
from recsys.settings import RecommendSettings

KEYS = ["user_id", "item_id", "channels", "score"]
NO_SCORES = {"user_id", "item_id", "channels", "label", "is_positive", "attraction"}


def score_names(candidates: pd.DataFrame) -> list[str]:
    """Columns of `score_candidates` that are scores: that of recall first, then the rankers'."""
    return [name for name in candidates.columns if name not in NO_SCORES]


def score_candidates(config: Config, day: date, folder: Path, split: str) -> Iterator[pd.DataFrame]:
    """Score a set of candidates by recall and by every ranker that was trained for the day, a block of users at a time.

    Args:
        config: all settings; `recommend.block_rows` is the size of a block.
        day: the day of the models.
        folder: the set.
        split: what its lists are compared with; see `Ranker`.

    Returns:
        Blocks with user_id, item_id, channels, label and one column per score (`score_names`), no user in two of them.

    Raises:
        UserError: the coarse or the fine ranker was not trained for the day.
    """
    rankers = load_rankers(config, day, split)
    for rows in user_blocks(folder, [*KEYS, *ranker_columns(config)], config.get(RecommendSettings).block_rows):
        block = pd.DataFrame({name: rows.keys[name] for name in ["user_id", "item_id", "channels"]})
        yield block.assign(label=rows.label, **{MERGED: rows.keys["score"]}, **predict_all(rankers, rows))


def predict_all(rankers: dict[str, Predict], rows: Rows) -> dict[str, NDArray[np.float64]]:
    """What each ranker predicts of rows."""
    return {name: np.asarray(predict(rows), np.float64) for name, predict in rankers.items()}


class BlockFile:
    """Blocks of a frame on disk, each a row group of a Parquet file, to be read again block by block."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if self._writer is not None:
            self._writer.close()

    def append(self, block: pd.DataFrame) -> None:
        """Write a block; a column has the type that it has in the first one."""
        schema = self._writer.schema if self._writer else None
        table = pa.Table.from_pandas(block, schema, preserve_index=False)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self.path, table.schema)
        self._writer.write_table(table, row_group_size=max(len(block), 1))

    def blocks(self) -> Iterator[pd.DataFrame]:
        """The blocks, once all are written."""
        with pq.ParquetFile(self.path) as file:
            if not file.num_row_groups:  # one block without rows
                yield file.read().to_pandas()
            for number in range(file.num_row_groups):
                yield file.read_row_group(number).to_pandas()
