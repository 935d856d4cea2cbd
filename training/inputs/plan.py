"""Who reads which rows, in which order: every row exactly once an epoch over all ranks, for any number of ranks and
files, and also when training goes on in the middle of an epoch, with as many ranks or with others.

An epoch's order is the row groups, permuted by seed and epoch, one after the other. Rank r of W reads rows
N·r // W … N·(r+1) // W of it, so shares differ by a row at most. A rank shuffles within blocks: consecutive rows of its
share, as many as its buffer holds.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

Done = tuple[tuple[int, int], ...]
"""What of an epoch is done: (number of ranks, steps that each made), an entry for each set of ranks at work."""


@dataclass(frozen=True)
class Piece:
    """Some rows of one row group."""

    group: int
    rows: "range | NDArray[np.int64]"

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def index(self) -> "slice | NDArray[np.int64]":
        """As an array takes it."""
        return slice(self.rows.start, self.rows.stop) if isinstance(self.rows, range) else self.rows


Block = tuple[list[Piece], "Callable[[], NDArray[np.int64] | None]", int]
"""Consecutive rows of a share: their pieces, what draws the place of each (None: as they stand), rows to skip."""


@dataclass(frozen=True)
class Plan:
    """How an epoch is read; `sizes` are the rows of the row groups, `buffer` rows are shuffled among (0: in order)."""

    sizes: tuple[int, ...]
    batch_size: int
    world_size: int
    buffer: int
    seed: int
    epoch: int
    done: Done = ()

    def num_steps(self) -> int:
        """Batches that are left, the same on every rank: as many as the largest share needs."""
        _, skip, pieces = self._now()
        largest = math.ceil(sum(map(len, pieces)) / self.world_size)
        return max(0, math.ceil(largest / self.batch_size) - skip)

    def blocks(self, rank: int) -> Iterator[Block]:
        """For each block that is left: its pieces, what draws where each of its rows goes, and rows to skip at its
        start.
        """
        stage, skip, pieces = self._now()
        share = _split(pieces, self.world_size)[rank]
        first, inside = divmod(skip * self.batch_size, self._block)
        for number, block in enumerate(_cut(share, self._block)):
            if number < first:
                continue
            yield block, partial(self._places, stage, rank, number, block), inside if number == first else 0

    @property
    def _block(self) -> int:
        return max(1, (self.buffer or 65536) // self.batch_size) * self.batch_size

    def _now(self) -> tuple[int, int, list[Piece]]:
        """The stage of the epoch, the steps made in it, and the pieces that it began with."""
        pieces = self._ordered()
        for stage, (world_size, steps) in enumerate(self.done):
            if stage == len(self.done) - 1 and world_size == self.world_size:
                return stage, steps, pieces
            pieces = self._left(stage, pieces, world_size, steps)
        return len(self.done), 0, pieces

    def _ordered(self) -> list[Piece]:
        order = np.arange(len(self.sizes))
        if self.buffer:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(order)
        return [Piece(int(group), range(self.sizes[group])) for group in order if self.sizes[group]]

    def _left(self, stage: int, pieces: list[Piece], world_size: int, steps: int) -> list[Piece]:
        """What `world_size` ranks had not read after some steps."""
        pieces_left = []
        first, inside = divmod(steps * self.batch_size, self._block)
        for rank, share in enumerate(_split(pieces, world_size)):
            for number, block in enumerate(_cut(share, self._block)):
                if number > first:
                    pieces_left += block
                elif number == first:
                    pieces_left += _after(block, self._places(stage, rank, number, block), inside)
        return pieces_left

    def _places(self, stage: int, rank: int, number: int, block: Sequence[Piece]) -> "NDArray[np.int64] | None":
        """Place in the block that each of its rows is moved to."""
        if not self.buffer:
            return None
        return np.random.default_rng([self.seed, self.epoch, stage, rank, number]).permutation(sum(map(len, block)))


def _split(pieces: Sequence[Piece], parts: int) -> list[list[Piece]]:
    """Consecutive shares that differ by a row at most."""
    total = sum(map(len, pieces))
    bounds = [total * part // parts for part in range(parts + 1)]
    return _parts(pieces, bounds)


def _cut(pieces: Sequence[Piece], size: int) -> list[list[Piece]]:
    """Consecutive blocks of `size` rows; the last may be smaller."""
    total = sum(map(len, pieces))
    return _parts(pieces, [*range(0, total, size), total] if total else [0])


def _parts(pieces: Sequence[Piece], bounds: Sequence[int]) -> list[list[Piece]]:
    """Rows bounds[i] … bounds[i + 1] of the pieces in a row, for every i, in one pass; bounds go from 0 to all rows."""
    parts: list[list[Piece]] = [[] for _ in bounds[1:]]
    part = first = 0
    for piece in pieces:
        low = 0
        while low < len(piece):
            while first + low >= bounds[part + 1]:
                part += 1
            high = min(len(piece), bounds[part + 1] - first)
            parts[part].append(Piece(piece.group, piece.rows[low:high]))
            low = high
        first += len(piece)
    return parts


def _after(block: Sequence[Piece], places: "NDArray[np.int64] | None", read: int) -> Iterator[Piece]:
    """Rows of a block whose places are not among the first `read`."""
    first = 0
    for piece in block:
        mine = np.arange(first, first + len(piece)) if places is None else places[first : first + len(piece)]
        unread = np.asarray(piece.rows)[mine >= read]
        if len(unread):
            yield Piece(piece.group, unread)
        first += len(piece)
