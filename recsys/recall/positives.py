"""Positives on the driver, when they are few enough: one read for all sets of a day."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F


@dataclass(frozen=True)
class Positives:
    """Rows of users, items and times, the ids as codes; 16 bytes a row beside the distinct ids."""

    user_ids: NDArray[np.object_]  # (users,) distinct ids, ascending
    item_ids: NDArray[np.object_]  # (items,) distinct ids, ascending
    users: NDArray[np.int32]  # (rows,) positions in `user_ids`
    items: NDArray[np.int32]  # (rows,) positions in `item_ids`
    at: NDArray[np.float64]  # (rows,) seconds since 1970
    split: NDArray[np.object_]  # (rows,) name of the row's split

    def of_splits(self, *splits: str) -> "Positives":
        """The rows of some splits; ids and codes stay."""
        rows = np.flatnonzero(np.isin(self.split.astype(str), splits))
        columns = {name: getattr(self, name)[rows] for name in ("users", "items", "at", "split")}
        return replace(self, **columns)

    def pairs(self, without: "Positives") -> pd.DataFrame:
        """Distinct user_id and item_id, in order, that are not in `without`, which has the same codes."""
        # A pair as one number, user · items + item, in 64 bits: users times items may go beyond 32.
        own, others = (one.users.astype(np.int64) * len(one.item_ids) + one.items for one in (self, without))
        keys = np.setdiff1d(own, others)
        users, items = np.divmod(keys, max(len(self.item_ids), 1))
        return pd.DataFrame({"user_id": self.user_ids[users], "item_id": self.item_ids[items]})


def collect_positives(positives: DataFrame) -> Positives:
    """Collect user_id, item_id, at and split by Arrow; one job."""
    table = positives.select("user_id", "item_id", F.col("at").cast("double").alias("at"), "split").toArrow()
    (users, user_ids), (items, item_ids) = (_encode(table[name]) for name in ("user_id", "item_id"))
    split = np.asarray(table["split"].to_numpy(zero_copy_only=False), object)
    return Positives(user_ids, item_ids, users, items, table["at"].to_numpy(zero_copy_only=False), split)


def _encode(column: pa.ChunkedArray) -> tuple[NDArray[np.int32], NDArray[np.object_]]:
    """Codes (rows,) and the distinct values in ascending order."""
    encoded = column.combine_chunks().dictionary_encode()
    order = pc.array_sort_indices(encoded.dictionary)
    rank = np.empty(len(order), np.int32)
    rank[order.to_numpy()] = np.arange(len(order), dtype=np.int32)
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    values = encoded.dictionary.take(order).to_numpy(zero_copy_only=False)
    return rank[codes], np.asarray(values, object)
