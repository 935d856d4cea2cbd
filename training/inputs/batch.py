"""What a model is fed: a few contiguous tensors, whatever the number of columns."""

from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray


@dataclass(frozen=True)
class Columns:
    """Columns of a data set, by what they become."""

    sparse: tuple[str, ...] = ()
    """int64 ids, side by side in `Batch.sparse`."""
    dense: tuple[str, ...] = ()
    """Numbers, side by side in `Batch.dense`."""
    lists: tuple[str, ...] = ()
    """Lists of ids, each an `Ids` in `Batch.lists`."""
    labels: tuple[str, ...] = ("label",)
    """One makes a label of shape (rows,), several (rows, labels)."""
    weight: str | None = None
    """Weight of a row in the loss; 1 when there is no such column."""
    image: str | None = None
    """Images, decoded by the data set's own codec, in `Batch.image`."""

    @property
    def names(self) -> list[str]:
        """All columns to read."""
        single = [name for name in (self.weight, self.image) if name]
        return list(dict.fromkeys([*self.sparse, *self.dense, *self.lists, *self.labels, *single]))


@dataclass(frozen=True)
class Ids:
    """Lists of different lengths: those of row i are `ids[offsets[i]:offsets[i + 1]]`; both int64."""

    ids: torch.Tensor
    offsets: torch.Tensor

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> "Ids":
        """Lists of some rows, in the order asked for."""
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            bounds = self.offsets[start : max(start, stop) + 1]
            return Ids(self.ids[bounds[0] : bounds[-1]], bounds - bounds[0])
        index = torch.as_tensor(rows)
        starts, lengths = self.offsets[index], self.offsets.diff()[index]
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
        shift = torch.repeat_interleave(starts - offsets[:-1], lengths)
        return Ids(self.ids[torch.arange(int(offsets[-1])) + shift], offsets)

    def padded(self, length: int) -> torch.Tensor:
        """(rows, length): the last `length` ids of each row at its end, zeros before them."""
        lengths = self.offsets.diff()
        place = torch.arange(len(self.ids), device=self.ids.device) - torch.repeat_interleave(
            self.offsets[1:], lengths
        )  # -1 for the last of a row
        row = torch.repeat_interleave(torch.arange(len(self), device=self.ids.device), lengths)
        fits = place >= -length
        padded = torch.zeros((len(self), length), dtype=torch.int64, device=self.ids.device)
        padded[row[fits], length + place[fits]] = self.ids[fits]
        return padded

    def to(self, device: torch.device) -> "Ids":
        return Ids(self.ids.to(device, non_blocking=True), self.offsets.to(device, non_blocking=True))

    @staticmethod
    def joined(parts: "list[Ids]") -> "Ids":
        """Rows of all parts, one after the other."""
        lengths = torch.cat([part.offsets.diff() for part in parts])
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
        return Ids(torch.cat([part.ids for part in parts]), offsets)


@dataclass(frozen=True)
class Batch:
    """Rows side by side. Padding rows, which make the last batch full, have weight 0."""

    sparse: torch.Tensor
    """(rows, fields) int64."""
    dense: torch.Tensor
    """(rows, features) float32."""
    label: torch.Tensor
    """(rows,) or (rows, labels) float32."""
    weight: torch.Tensor
    """(rows,) float32."""
    lists: tuple[Ids, ...] = ()
    image: torch.Tensor | None = None
    """(rows, channels, height, width) uint8."""

    def __len__(self) -> int:
        return len(self.weight)

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> "Batch":
        """Some rows: views for a slice."""
        return Batch(
            self.sparse[rows],
            self.dense[rows],
            self.label[rows],
            self.weight[rows],
            tuple(ids[rows] for ids in self.lists),
            None if self.image is None else self.image[rows],
        )

    def to(self, device: torch.device) -> "Batch":
        if device.type == "cpu":
            return self
        moved = {f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self) if f.name in _ALWAYS}
        image = None if self.image is None else self.image.to(device, non_blocking=True)
        return Batch(**moved, lists=tuple(ids.to(device) for ids in self.lists), image=image)

    def padded(self, size: int) -> "Batch":
        """Filled up to `size` rows with zeros of weight 0."""
        missing = size - len(self)
        if missing <= 0:
            return self
        return Batch.joined([self, self.nothing(missing)])

    def nothing(self, rows: int) -> "Batch":
        """`rows` rows of zeros with the shapes of this one."""
        lists = tuple(
            Ids(torch.zeros(0, dtype=torch.int64), torch.zeros(rows + 1, dtype=torch.int64)) for _ in self.lists
        )
        zeros = {name: getattr(self, name).new_zeros((rows, *getattr(self, name).shape[1:])) for name in _ALWAYS}
        image = None if self.image is None else self.image.new_zeros((rows, *self.image.shape[1:]))
        return Batch(**zeros, lists=lists, image=image)

    @staticmethod
    def joined(parts: "list[Batch]") -> "Batch":
        """Rows of all parts, one after the other."""
        if len(parts) == 1:
            return parts[0]
        first = parts[0]
        tensors = {name: torch.cat([getattr(part, name) for part in parts]) for name in _ALWAYS}
        lists = tuple(Ids.joined([part.lists[i] for part in parts]) for i in range(len(first.lists)))
        image = None if first.image is None else torch.cat([part.image for part in parts if part.image is not None])
        return Batch(**tensors, lists=lists, image=image)


_ALWAYS = ("sparse", "dense", "label", "weight")
