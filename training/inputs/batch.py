"""Columns of a data set, and the batch of tensors that they become."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Columns:
    """Columns of a data set, by what they become."""

    sparse: tuple[str, ...] = ()
    """int64 ids, side by side in `Batch.sparse`."""
    dense: tuple[str, ...] = ()
    """Numbers, side by side in `Batch.dense`."""
    lists: tuple[str, ...] = ()
    """Lists of ids, each an `IdLists` in `Batch.lists`."""
    labels: tuple[str, ...] = ("label",)
    """One makes a label of shape (rows,), several (rows, labels)."""
    weight: str | None = None
    """Weight of a row in the loss; 1 when there is no such column."""
    image: str | None = None
    """Encoded images, decoded into `Batch.image`."""
    sparse_sizes: tuple[int, ...] = ()
    """Ids of each sparse column are below its size, else the feed refuses the data set; empty: not checked."""
    list_sizes: tuple[int, ...] = ()
    """Ids in each list are below its size; empty: not checked."""

    @property
    def names(self) -> list[str]:
        """All columns to read, each once."""
        single = [name for name in (self.weight, self.image) if name]
        return list(dict.fromkeys([*self.sparse, *self.dense, *self.lists, *self.labels, *single]))


@dataclass(frozen=True)
class IdLists:
    """One list of ids per row, of any length: row i has `ids[offsets[i]:offsets[i + 1]]`, as `nn.EmbeddingBag` has it.

    Both tensors are int64; `offsets` has one entry more than there are rows.
    """

    ids: Tensor
    offsets: Tensor

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> "IdLists":
        """The lists of `rows`, in that order; a slice shares memory with this one."""
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            bounds = self.offsets[start : max(start, stop) + 1]  # (rows + 1,)
            return IdLists(self.ids[bounds[0] : bounds[-1]], bounds - bounds[0])
        index = torch.as_tensor(rows)
        starts, lengths = self.offsets[index], self.offsets.diff()[index]  # (rows,) each
        offsets = _offsets(lengths)
        # Where each id of the result stands in `self.ids`, for all rows at once: no loop over lists in Python.
        shift = torch.repeat_interleave(starts - offsets[:-1], lengths)  # (ids,)
        return IdLists(self.ids[torch.arange(int(offsets[-1])) + shift], offsets)

    def to_padded(self, length: int) -> Tensor:
        """The last `length` ids of each row as (rows, length) int64, right-aligned, with zeros before them.

        The newest id of a history stands last, so a recurrent network ends on it, whatever the history's length.
        """
        if not len(self.ids):
            return self.ids.new_zeros((len(self), length))
        # Every shape follows from `length`: a mask that selects ids would have a GPU wait for their number.
        columns = torch.arange(-length, 0, device=self.ids.device)  # −1 for the last id of a row
        position = self.offsets[1:, None] + columns  # (rows, length)
        is_inside = position >= self.offsets[:-1, None]
        return torch.where(is_inside, self.ids[position.clamp(min=0)], 0)

    def to(self, device: torch.device) -> "IdLists":
        """The same lists on `device`."""
        return IdLists(self.ids.to(device, non_blocking=True), self.offsets.to(device, non_blocking=True))

    @staticmethod
    def concat(parts: "list[IdLists]") -> "IdLists":
        """Rows of all `parts`, one after the other."""
        lengths = torch.cat([part.offsets.diff() for part in parts])
        return IdLists(torch.cat([part.ids for part in parts]), _offsets(lengths))


def _offsets(lengths: Tensor) -> Tensor:
    zero = torch.zeros(1, dtype=torch.int64)
    return torch.cat([zero, lengths.cumsum(0)])  # (lists + 1,)


@dataclass(frozen=True)
class Batch:
    """Rows side by side: a few contiguous tensors, whatever the number of columns.

    The rows that fill up the last batch of an epoch (see `pad_to`) have weight 0.
    """

    sparse: Tensor
    """(rows, fields) int64."""
    dense: Tensor
    """(rows, features) float32."""
    label: Tensor
    """(rows,) or (rows, labels) float32."""
    weight: Tensor
    """(rows,) float32."""
    lists: tuple[IdLists, ...] = ()
    image: Tensor | None = None
    """(rows, channels, height, width) uint8."""

    def __len__(self) -> int:
        return len(self.weight)

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> "Batch":
        """The `rows`, in that order; a slice shares memory with this batch."""
        return self._map(lambda tensor: tensor[rows], lambda ids: ids[rows])

    def _map(self, of_tensor: Callable[[Tensor], Tensor], of_lists: Callable[[IdLists], IdLists]) -> "Batch":
        """A batch of the same columns: `of_tensor` of each tensor, `of_lists` of each column of lists."""
        lists = tuple(of_lists(ids) for ids in self.lists)
        image = None if self.image is None else of_tensor(self.image)
        return Batch(
            of_tensor(self.sparse), of_tensor(self.dense), of_tensor(self.label), of_tensor(self.weight), lists, image
        )

    def tensors(self) -> list[Tensor]:
        """All tensors of the batch."""
        lists = [tensor for ids in self.lists for tensor in (ids.ids, ids.offsets)]
        images = [] if self.image is None else [self.image]
        return [self.sparse, self.dense, self.label, self.weight, *lists, *images]

    def pin_memory(self) -> "Batch":
        """A copy in memory that a GPU reads by itself, while the host goes on."""
        return self._map(Tensor.pin_memory, lambda ids: IdLists(ids.ids.pin_memory(), ids.offsets.pin_memory()))

    def to(self, device: torch.device) -> "Batch":
        """The same rows on `device`; the batch itself on the CPU, where it was read."""
        if device.type == "cpu":
            return self
        # Not blocking: the copies of one batch queue up on a GPU's stream, and later work on the stream waits for them.
        return self._map(lambda tensor: tensor.to(device, non_blocking=True), lambda ids: ids.to(device))

    def pad_to(self, num_rows: int) -> "Batch":
        """This batch, filled up to `num_rows` rows with `padding`."""
        missing = num_rows - len(self)
        return Batch.concat([self, self.padding(missing)]) if missing > 0 else self

    def padding(self, num_rows: int) -> "Batch":
        """`num_rows` rows of zeros, weight included, with the shapes of this batch."""
        empty = IdLists(torch.zeros(0, dtype=torch.int64), torch.zeros(num_rows + 1, dtype=torch.int64))
        return self._map(lambda tensor: tensor.new_zeros((num_rows, *tensor.shape[1:])), lambda _: empty)

    @staticmethod
    def concat(parts: "list[Batch]") -> "Batch":
        """Rows of all `parts`, one after the other."""
        if len(parts) == 1:
            return parts[0]  # no copy
        images = [part.image for part in parts if part.image is not None]
        return Batch(
            torch.cat([part.sparse for part in parts]),
            torch.cat([part.dense for part in parts]),
            torch.cat([part.label for part in parts]),
            torch.cat([part.weight for part in parts]),
            tuple(IdLists.concat(list(lists)) for lists in zip(*(part.lists for part in parts), strict=True)),
            torch.cat(images) if images else None,
        )
