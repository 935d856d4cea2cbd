"""LightGBM's trees as flat arrays, for a request's few rows: its own prediction takes longest of an answer's steps.

Trees come one after the other and rows within: a tree stays in the cache while all rows pass through it. Leaf values
are summed up in LightGBM's order, so that scores are equal to the last bit.
"""

from collections.abc import Callable
from typing import Any

import lightgbm as lgb
import numpy as np
from numba import njit
from numpy.typing import NDArray

MISSING = {"None": 0, "Zero": 1, "NaN": 2}  # LightGBM's missing_type
ZERO = 1e-35  # what LightGBM takes for zero, kZeroThreshold
CHECKED_ROWS = 256


def compile_trees(booster: lgb.Booster) -> Callable[[NDArray[np.float32]], NDArray[np.float64]] | None:
    """A function from features (rows, features) to scores before any sigmoid (rows,).

    None when it doesn't give the booster's own scores, as for kinds of trees that are not known here.
    """
    trees = booster.dump_model()["tree_info"]
    table = _Table()
    try:
        roots = [table.add(tree["tree_structure"]) for tree in trees]
    except KeyError:  # a node of another kind
        return None
    arrays = table.arrays(roots)

    def scores(features: NDArray[np.float32]) -> NDArray[np.float64]:
        out = np.zeros(len(features))
        _sum_leaves(np.ascontiguousarray(features, np.float32), *arrays, out)
        return out

    rng = np.random.default_rng(0)
    rows = rng.normal(size=(CHECKED_ROWS, booster.num_feature())).astype(np.float32)
    rows[::2] = np.abs(np.rint(rows[::2] * 20))  # ids of categories
    rows[::5, rng.integers(0, rows.shape[1], rows.shape[1])] = 0
    is_equal = np.array_equal(scores(rows), booster.predict(rows, raw_score=True))
    return scores if is_equal else None


class _Table:
    """Nodes of all trees; a leaf is the child −1 − its number."""

    def __init__(self) -> None:
        self.nodes: list[list[float]] = []  # feature, kind, threshold or first word of the set, left, right
        self.leaves: list[float] = []
        self.words: list[int] = []

    def add(self, node: dict[str, Any]) -> int:
        """Number of a node or leaf, with all below it. Raises KeyError for one of another kind."""
        if "split_index" not in node:
            self.leaves.append(float(node["leaf_value"]))
            return -len(self.leaves)
        number, row = len(self.nodes), [float(node["split_feature"])]
        self.nodes.append(row)
        if node["decision_type"] == "<=":
            kind = MISSING[node["missing_type"]] * 2 + bool(node["default_left"])
            row += [kind, float(node["threshold"])]
        elif node["decision_type"] == "==":
            row += [-self._add_set([int(value) for value in node["threshold"].split("||")]), len(self.words)]
        else:
            raise KeyError(node["decision_type"])
        row += [self.add(node["left_child"]), self.add(node["right_child"])]
        return number

    def _add_set(self, categories: list[int]) -> int:
        """Add a set of categories as words of 32 bits; returns how many, after `words` has them."""
        size = max(categories) // 32 + 1
        words = [0] * size
        for category in categories:
            words[category // 32] |= 1 << (category % 32)
        self.words += words
        return size

    def arrays(self, roots: list[int]) -> tuple[NDArray[Any], ...]:
        """What `_sum_leaves` reads."""
        nodes = np.array(self.nodes).reshape(-1, 5)
        columns = [nodes[:, n].astype(np.int32) for n in (0, 1, 3, 4)]
        words = np.array([*self.words, 0], np.uint32)
        return (np.array(roots, np.int32), *columns, np.ascontiguousarray(nodes[:, 2]), words, np.array(self.leaves))


@njit(cache=True, nogil=True)
def _sum_leaves(features, roots, feature, kind, left, right, threshold, words, leaves, out):  # type: ignore[no-untyped-def]
    """Add each tree's leaf of each row to `out`."""
    for root in roots:
        for row in range(len(out)):
            node = root
            while node >= 0:
                x = np.float64(features[row, feature[node]])
                k = kind[node]
                if k < 0:  # a set of categories, whose −k words end before `threshold`
                    is_left = False
                    if not np.isnan(x):
                        category = np.int64(x)  # cuts fractions off, as LightGBM does
                        if 0 <= category < -k * 32:
                            word = words[np.int64(threshold[node]) + k + category // 32]
                            is_left = (word >> np.uint32(category % 32)) & np.uint32(1) == 1
                else:
                    missing = k // 2
                    if np.isnan(x) and missing != 2:
                        x = np.float64(0.0)
                    if (missing == 1 and abs(x) <= ZERO) or (missing == 2 and np.isnan(x)):
                        is_left = k % 2 == 1
                    else:
                        is_left = x <= threshold[node]
                node = left[node] if is_left else right[node]
            out[row] += leaves[-1 - node]
