"""A factorisation of random clicks, for tests of what is done with one."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from features.catalog import DENSE, SPARSE
from recsys.dataset import Rows
from recsys.mf import train as mf
from recsys.mf.encode import AGE, SPARSE_NAMES
from recsys.mf.vectors import Factors
from recsys.settings import MFSettings


def factors_of(users: Sequence[str], items: Sequence[str], rows: int = 400) -> Factors:
    """Users and items were shown to each other at random; who clicks what is random, too."""
    rng = np.random.default_rng(0)
    rows = rows if len(users) and len(items) else 0
    sparse = np.zeros((rows, len(SPARSE)), np.int64)
    sparse[:, SPARSE_NAMES.index("position")] = rng.integers(1, 11, rows)
    keys = {"user_id": users, "item_id": items}
    drawn = {
        name: pd.Series(rng.choice(np.asarray(ids, object), rows) if rows else [], dtype=object)
        for name, ids in keys.items()
    }
    label = (rng.random(rows) < 0.3).astype(np.float32)
    ranker = mf.train(Rows(sparse, np.zeros((rows, len(DENSE)), np.float32), label, drawn), MFSettings(factors=3))
    age = DENSE[AGE].name
    return Factors(ranker, {"mean": {age: 0.0}, "deviation": {age: 1.0}})
