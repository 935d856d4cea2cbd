"""LightGBM's trees as flat arrays, for a request's few rows: its own prediction takes longest of an answer's steps.

Trees come one after the other and rows within: a tree stays in the cache while all rows pass through it. Leaf values
are summed up in LightGBM's order, so that scores are equal to the last bit.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
from numba import njit
from numpy.typing import NDArray

from recsys.serve.state.arrays import map_array, save_arrays

MISSING = {"None": 0, "Zero": 1, "NaN": 2}  # LightGBM's missing_type
ZERO = 1e-35  # what LightGBM takes for zero, kZeroThreshold
CHECKED_ROWS = 256
ARRAYS = ("roots", "feature", "kind", "left", "right", "threshold", "words", "leaves")


@dataclass(frozen=True)
class FlatTrees:
    """All trees of a booster; the arrays are those of `_sum_leaves`."""

    arrays: tuple[NDArray[Any], ...]

    @classmethod
    def of(cls, booster: lgb.Booster) -> "FlatTrees | None":
        """Flatten the trees; None when they don't give the booster's own scores, as kinds that are not known here."""
        table = _Table()
        try:
            roots = [table.add(tree["tree_structure"]) for tree in booster.dump_model()["tree_info"]]
        except KeyError:  # a node of another kind
            return None
        trees = cls(table.arrays(roots))
        rng = np.random.default_rng(0)
        rows = rng.normal(size=(CHECKED_ROWS, booster.num_feature())).astype(np.float32)
        rows[::2] = np.abs(np.rint(rows[::2] * 20))  # ids of categories
        rows[::5, rng.integers(0, rows.shape[1], rows.shape[1])] = 0
        return trees if np.array_equal(trees.scores(rows), booster.predict(rows, raw_score=True)) else None

    def scores(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Scores before any sigmoid (rows,) of features (rows, features)."""
        out = np.zeros(len(features))
        _sum_leaves(np.ascontiguousarray(features, np.float32), *self.arrays, out)
        return out

    def save(self, folder: Path) -> None:
        """Save the arrays for `map`."""
        save_arrays(folder, {f"trees_{name}": array for name, array in zip(ARRAYS, self.arrays, strict=True)})

    @classmethod
    def map(cls, folder: Path) -> "FlatTrees | None":
        """Map what was saved into memory; None when nothing was."""
        if not (folder / f"trees_{ARRAYS[-1]}.npy").exists():
            return None
        return cls(tuple(np.array(map_array(folder, f"trees_{name}")) for name in ARRAYS))


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
