"""The counts of a site's own rates, for a server: sums by the text of their keys.

They are those of the days before the server's, as training sets have them: today's clicks change them tomorrow.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from features.catalog import OWN_GROUPS
from features.counts.day_sums import SUMS
from features.transforms.columns import Compiled, Row, Texts, compile_expression
from recsys.serve.state.arrays import IdIndex, map_array

KEYS = frozenset(name for keys in OWN_GROUPS.values() for name in keys)
"""Columns that own rates are counted by."""


@dataclass(frozen=True)
class OwnCounts:
    """Sums of one group of keys."""

    name: str
    """Of the group."""
    key: Compiled
    """Row -> text of its key, null where a part is."""
    index: IdIndex
    sums: NDArray[np.float64]
    """(keys + 1, 3) SUMS of each key; the last ones are NaN, of keys that were never shown."""

    @classmethod
    def build(cls, name: str, rows: Row, values: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
        """Count impressions; the arrays to save.

        Args:
            name: of the group.
            rows: columns of the impressions, as texts.
            values: (3, impressions) of SUMS; 0 where an impression is not counted.
        """
        texts = _key_of(name)(rows)
        distinct = list(dict.fromkeys(text for text in texts.values if text is not None))
        number = {text: position for position, text in enumerate(distinct)}
        codes = np.array([number.get(text, len(distinct)) for text in texts.values], np.int64)[texts.codes]
        sums = np.stack([np.bincount(codes, weight, minlength=len(distinct) + 1) for weight in values], axis=1)
        sums[sums[:, 0] == 0] = np.nan  # as where there is no row at all
        sums[-1] = np.nan
        return {f"{name}_sums": sums, **IdIndex.build(distinct).arrays(f"{name}_index")}

    @classmethod
    def map(cls, folder: Path, name: str) -> Self:
        """Map what `build` returned."""
        index = IdIndex.map(folder, f"{name}_index")
        return cls(name, _key_of(name), index, map_array(folder, f"{name}_sums"))

    def columns(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The columns that `with_counts_before` adds, for a request's row."""
        key = self.key(row)
        if isinstance(key, Texts):
            numbers = key.map(lambda text: -1 if text is None else int(self.index.find([text])[0]))
            sums = self.sums[np.array(numbers.values, np.int64)[numbers.codes]].T  # (3, rows)
            return {f"{self.name}_{name}": values for name, values in zip(SUMS, sums, strict=True)}
        code = -1 if key is None else int(self.index.find([key])[0])
        single = [None if np.isnan(value) else float(value) for value in self.sums[code]]
        return {f"{self.name}_{name}": value for name, value in zip(SUMS, single, strict=True)}


def _key_of(group: str) -> Compiled:
    # What stands between the parts is in no text of a file.
    parts = ", '\\x1f', ".join(OWN_GROUPS[group])
    return compile_expression(f"concat({parts}, '')")
