"""The site's own columns of users or items, by code: numbers, and texts by their codes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from conf.site import Number
from conf.site.columns import Owner
from features.catalog import OWN_COLUMNS
from features.own_columns import MAP_OF
from features.transforms.columns import Texts
from recsys.serve.state.arrays import map_array
from recsys.serve.state.rows import profiles


@dataclass(frozen=True)
class OwnArrays:
    """Columns of one owner; there are none where the site declares none."""

    owner: Owner
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """`own_<name>`: (users or items,) numbers, NaN for none, or codes of texts."""
    names: Mapping[str, list[str | None]] = field(default_factory=dict)
    """`own_<name>`: the texts, ending with None."""

    @staticmethod
    def sources(owner: Owner) -> list[str]:
        """Columns of the dimension that they are read from."""
        return [MAP_OF[owner]] if OWN_COLUMNS.of_owner(owner) else []

    @classmethod
    def build(cls, owner: Owner, table: pa.Table, row: NDArray[np.int64]) -> Self:
        """Read the texts of a dimension.

        Args:
            owner: users or items.
            table: the snapshot, with the columns `sources`.
            row: (users or items,) row of the table, −1 for none.
        """
        columns = OWN_COLUMNS.of_owner(owner)
        if not columns:
            return cls(owner)
        texts = table[MAP_OF[owner]].to_pylist() if MAP_OF[owner] in table.column_names else [None] * len(table)
        values = [OWN_COLUMNS.read_texts(owner, dict(pairs or ())) for pairs in texts]
        arrays: dict[str, NDArray[Any]] = {}
        names: dict[str, list[str | None]] = {}
        for column in columns:
            for name in column.names:
                of_rows = [one[name] for one in values]
                if isinstance(column.type, Number):
                    numbers = np.array([*of_rows, None], np.float64)  # None is NaN; the last one is of row −1
                    arrays[f"own_{name}"] = numbers[row]
                else:
                    named = pa.table({name: pa.array(of_rows, pa.string())})
                    names[f"own_{name}"], codes = profiles(named, name)
                    none = len(names[f"own_{name}"]) - 1
                    arrays[f"own_{name}"] = np.append(codes, none)[row].astype(np.int32)
        return cls(owner, arrays, names)

    @classmethod
    def map(cls, folder: Path, owner: Owner, names: Mapping[str, list[str | None]]) -> Self:
        """The arrays of a state's folder, mapped into memory."""
        keys = [f"own_{name}" for name in OWN_COLUMNS.names(owner)]
        return cls(
            owner, {key: map_array(folder, key) for key in keys}, {key: names[key] for key in keys if key in names}
        )

    def rows(self, codes: NDArray[np.integer]) -> dict[str, Any]:
        """By name, the column of each: of codes (rows,), −1 for what is unknown."""
        return {name: self._column(f"own_{name}", codes) for name in OWN_COLUMNS.names(self.owner)}

    def row(self, code: int) -> dict[str, float | str | None]:
        """By name, the value of one; −1 for an unknown one."""
        values: dict[str, float | str | None] = {}
        for name in OWN_COLUMNS.names(self.owner):
            value = self.arrays[f"own_{name}"][code] if code >= 0 else None
            if f"own_{name}" in self.names:
                values[name] = None if value is None else self.names[f"own_{name}"][int(value)]
            else:
                values[name] = None if value is None or np.isnan(value) else float(value)
        return values

    def _column(self, key: str, codes: NDArray[np.integer]) -> Any:
        is_known = codes >= 0
        values = self.arrays[key][codes] if len(self.arrays[key]) else np.zeros(len(codes))
        if key in self.names:
            texts: Sequence[str | None] = self.names[key]
            return Texts(texts, np.where(is_known, values, len(texts) - 1).astype(np.int64))
        return np.where(is_known, values, np.nan)
