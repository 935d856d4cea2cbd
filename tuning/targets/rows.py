"""Rows as trials share them: arrays in Ray's shared memory."""

import numpy as np
import pandas as pd

from recsys.dataset import Rows


def shared(rows: Rows) -> Rows:
    """Keys as numbers, so that every array lies in Ray's shared memory and is read there, without a copy."""
    # Only which rows have equal keys matters to metrics; texts would be pickled and copied by each worker.
    keys = {
        name: pd.Series(values.factorize()[0] if values.dtype == object else values.to_numpy())
        for name, values in rows.keys.items()
    }
    return Rows(np.ascontiguousarray(rows.sparse), np.ascontiguousarray(rows.dense), rows.label, keys)


def part_of(rows: Rows, first: float, last: float) -> Rows:
    """Rows from a share to a share of them; views, not copies."""
    return rows[round(first * len(rows.label)) : round(last * len(rows.label))]
