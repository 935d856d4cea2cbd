"""Arrays in files of a folder, mapped into memory; texts among them as bytes, ids by their hashes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xxhash
from numpy.typing import NDArray

from conf import UserError


def save_arrays(folder: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write each array to `<name>.npy`."""
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", np.ascontiguousarray(array), allow_pickle=False)


def map_array(folder: Path, name: str, mode: Literal["r", "c"] = "r") -> NDArray[Any]:
    """Map an array into memory.

    Args:
        folder: of `save_arrays`.
        name: of the array.
        mode: r, or c for one that may be written to: changes stay in this process's memory, page by page.

    Raises:
        UserError: the file is missing or damaged.
    """
    path = folder / f"{name}.npy"
    try:
        # An empty file can't be mapped.
        array = np.load(path, mmap_mode=mode, allow_pickle=False)
    except (OSError, ValueError):
        try:
            return np.asarray(np.load(path, allow_pickle=False))
        except (OSError, ValueError):
            raise UserError(f"{path} is missing or damaged: delete {folder}, and start again") from None
    return np.asarray(array)  # a plain view: memmap's own slicing is slower


def hash_of(text: str) -> int:
    """64 bits that stand for an id."""
    return xxhash.xxh64_intdigest(text.encode())


@dataclass(frozen=True)
class Texts:
    """Texts one after the other in an array of bytes."""

    data: NDArray[np.uint8]
    offsets: NDArray[np.int64]  # (texts + 1,)

    @classmethod
    def pack(cls, texts: Sequence[str]) -> "Texts":
        """Put texts into arrays."""
        encoded = [text.encode() for text in texts]
        offsets = np.zeros(len(encoded) + 1, np.int64)
        np.cumsum([len(one) for one in encoded], out=offsets[1:])
        return cls(np.frombuffer(b"".join(encoded), np.uint8), offsets)

    @classmethod
    def map(cls, folder: Path, name: str) -> "Texts":
        """Map what `arrays(name)` were saved."""
        return cls(map_array(folder, f"{name}_data"), map_array(folder, f"{name}_offsets"))

    def arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """The arrays to save, by name."""
        return {f"{name}_data": self.data, f"{name}_offsets": self.offsets}

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, number: int) -> str:
        start, stop = self.offsets[number], self.offsets[number + 1]
        return self.data[start:stop].tobytes().decode()


@dataclass(frozen=True)
class IdIndex:
    """Codes of ids, by their hashes: a binary search, so that nothing has to be read into memory."""

    hashes: NDArray[np.uint64]  # (ids,) ascending
    codes: NDArray[np.int32]  # (ids,)

    @classmethod
    def build(cls, ids: Sequence[str]) -> "IdIndex":
        """Index ids by their position.

        Raises:
            UserError: two ids have the same hash.
        """
        hashes = np.array([hash_of(one) for one in ids], np.uint64)
        order = np.argsort(hashes, kind="stable")
        ascending = hashes[order]
        if (same := np.flatnonzero(ascending[1:] == ascending[:-1])).size:
            first = same[0]
            raise UserError(f"ids {ids[order[first]]} and {ids[order[first + 1]]} have the same hash: rename one")
        return cls(ascending, order.astype(np.int32))

    @classmethod
    def map(cls, folder: Path, name: str) -> "IdIndex":
        """Map what `arrays(name)` were saved."""
        return cls(map_array(folder, f"{name}_hashes"), map_array(folder, f"{name}_codes"))

    def arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """The arrays to save, by name."""
        return {f"{name}_hashes": self.hashes, f"{name}_codes": self.codes}

    def find(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """(ids,) code of each id, −1 for an unknown one."""
        if not len(self.hashes):
            return np.full(len(ids), -1, np.int64)
        hashes = np.array([hash_of(one) for one in ids], np.uint64)
        position = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        return np.where(self.hashes[position] == hashes, self.codes[position], -1)


@dataclass(frozen=True)
class Lists:
    """A list of numbers for each key, one after the other."""

    offsets: NDArray[np.int64]  # (keys + 1,)
    values: NDArray[Any]  # (entries,)

    @classmethod
    def map(cls, folder: Path, name: str) -> "Lists":
        """Map what `arrays(name)` were saved."""
        return cls(map_array(folder, f"{name}_offsets"), map_array(folder, name))

    @classmethod
    def of_sorted(cls, keys: NDArray[np.integer], values: NDArray[Any], num_keys: int) -> "Lists":
        """Group values by their keys (entries,), which ascend."""
        # Where each key's values begin, also of a key without any; the last offset is their number.
        offsets = np.searchsorted(keys, np.arange(num_keys + 1))
        return cls(offsets, values)

    def arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """The arrays to save, by name."""
        return {f"{name}_offsets": self.offsets, name: self.values}

    def __getitem__(self, key: int) -> NDArray[Any]:
        return self.values[self.offsets[key] : self.offsets[key + 1]]
