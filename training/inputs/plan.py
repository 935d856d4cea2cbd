"""Which rank reads which rows of an epoch, and in which order.

Every row is read exactly once an epoch over all ranks, for any number of ranks and files, also when training resumes in
the middle of an epoch with another number of ranks.

An epoch is the sequence of all row groups, permuted by seed and epoch. Rank r of W reads its rows N·r // W …
N·(r+1) // W, so shares differ by a row at most. A rank shuffles within blocks: consecutive rows of its share, as many
as its shuffle buffer holds.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CompletedSteps = tuple[tuple[int, int], ...]
"""Progress within an epoch: (world size, steps that each rank made), with one entry for each change of world size."""

UNSHUFFLED_BLOCK = 65536  # rows of a block where nothing is shuffled: only the size of what is handed on at once


@dataclass(frozen=True)
class RowSelection:
    """Rows of one row group, by their positions in it."""

    group: int
    """Number of the row group in its data set."""
    rows: "range | NDArray[np.int64]"

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Block:
    """Consecutive rows of a rank's share, which are shuffled among one another."""

    selections: list[RowSelection]
    shuffle_seed: tuple[int, ...] | None
    """None: the rows stay in order."""
    skip: int = 0
    """Rows at the start of the shuffled block that have been read before."""

    def positions(self) -> "NDArray[np.int64] | None":
        """(rows,) the position in the shuffled block that each row moves to; None where rows stay in order.

        Drawn on each call, not stored: an epoch of a billion rows would hold 8 GB of positions.
        """
        if self.shuffle_seed is None:
            return None
        # A seed sequence for each block: blocks can be drawn in any order, or skipped, when training resumes.
        return np.random.default_rng(list(self.shuffle_seed)).permutation(sum(map(len, self.selections)))


@dataclass(frozen=True)
class EpochPlan:
    """How the ranks read one epoch, or the rest of it; a pure function of its fields, so nothing of it is saved."""

    group_sizes: tuple[int, ...]
    """Rows of each row group."""
    batch_size: int
    world_size: int
    shuffle_rows: int
    """Rows that are shuffled among one another; 0 keeps the order of the files."""
    seed: int
    epoch: int
    completed: CompletedSteps = ()

    def num_steps(self) -> int:
        """Batches still to be read, the same on every rank: as many as the largest share needs."""
        _, steps_done, selections = self._current_stage()
        # Steps come from the largest share: with fewer, its last row would be lost; smaller shares are padded.
        largest_share = math.ceil(sum(map(len, selections)) / self.world_size)
        return max(0, math.ceil(largest_share / self.batch_size) - steps_done)

    def blocks(self, rank: int) -> Iterator[Block]:
        """The blocks that `rank` still has to read, in order; the first may be read in part (`Block.skip`)."""
        stage, steps_done, selections = self._current_stage()
        share = _split_evenly(selections, self.world_size)[rank]
        first, skip = divmod(steps_done * self.batch_size, self._block_size)
        for number, rows in enumerate(_split_by_size(share, self._block_size)):
            if number >= first:
                yield self._block(rows, (stage, rank, number), skip if number == first else 0)

    @property
    def _block_size(self) -> int:
        """Whole batches, so that no batch crosses the end of a block."""
        num_batches = (self.shuffle_rows or UNSHUFFLED_BLOCK) // self.batch_size
        return max(1, num_batches) * self.batch_size  # of a buffer below a batch's size, one batch

    def _current_stage(self) -> tuple[int, int, list[RowSelection]]:
        """Number of the stage (ranks at work without a change), steps made in it, and the rows it began with."""
        selections = self._shuffled_groups()
        for stage, (world_size, steps) in enumerate(self.completed):
            if stage == len(self.completed) - 1 and world_size == self.world_size:
                return stage, steps, selections  # as many ranks as before: the stage goes on where it was
            selections = self._remaining(stage, selections, world_size, steps)
        return len(self.completed), 0, selections

    def _shuffled_groups(self) -> list[RowSelection]:
        order = np.arange(len(self.group_sizes))  # (row groups,)
        if self.shuffle_rows:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(order)
        # Empty row groups are left out: pyarrow writes one for an empty table.
        return [RowSelection(int(group), range(self.group_sizes[group])) for group in order if self.group_sizes[group]]

    def _remaining(self, stage: int, selections: list[RowSelection], world_size: int, steps: int) -> list[RowSelection]:
        """The rows of a stage that its `world_size` ranks had not read after `steps` steps."""
        remaining = []
        first, skip = divmod(steps * self.batch_size, self._block_size)
        for rank, share in enumerate(_split_evenly(selections, world_size)):
            for number, rows in enumerate(_split_by_size(share, self._block_size)):
                if number > first:
                    remaining += rows  # a block that was not begun
                elif number == first:
                    remaining += _unread(self._block(rows, (stage, rank, number), skip))
        return remaining

    def _block(self, rows: list[RowSelection], key: tuple[int, int, int], skip: int) -> Block:
        """The block of `rows` with the `key` (stage, rank, number), from which the seed of its shuffle follows."""
        shuffle_seed = (self.seed, self.epoch, *key) if self.shuffle_rows else None
        return Block(rows, shuffle_seed, skip)


def _split_evenly(selections: Sequence[RowSelection], num_shares: int) -> list[list[RowSelection]]:
    """Consecutive shares whose sizes differ by a row at most."""
    total = sum(map(len, selections))
    return _split_at(selections, [total * share // num_shares for share in range(num_shares + 1)])


def _split_by_size(selections: Sequence[RowSelection], size: int) -> list[list[RowSelection]]:
    """Consecutive blocks of `size` rows; the last may be smaller."""
    total = sum(map(len, selections))
    return _split_at(selections, [*range(0, total, size), total] if total else [0])


def _split_at(selections: Sequence[RowSelection], bounds: Sequence[int]) -> list[list[RowSelection]]:
    """Rows bounds[i] … bounds[i + 1] of the sequence, for every i; bounds go from 0 to the number of rows.

    One pass over the selections, as there are many: after a change of ranks, one for every row group and rank.
    """
    parts: list[list[RowSelection]] = [[] for _ in bounds[1:]]
    part = offset = 0
    for selection in selections:
        low = 0
        while low < len(selection):
            while offset + low >= bounds[part + 1]:
                part += 1  # more than once where parts are empty: more ranks than rows
            high = min(len(selection), bounds[part + 1] - offset)
            parts[part].append(RowSelection(selection.group, selection.rows[low:high]))
            low = high
        offset += len(selection)
    return parts


def _unread(block: Block) -> Iterator[RowSelection]:
    """The rows of a block that are not among the first `skip` of its shuffled order."""
    positions, offset = block.positions(), 0
    for selection in block.selections:
        end = offset + len(selection)
        own_positions = np.arange(offset, end) if positions is None else positions[offset:end]
        rows = np.asarray(selection.rows)[own_positions >= block.skip]
        if len(rows):
            yield RowSelection(selection.group, rows)
        offset = end
