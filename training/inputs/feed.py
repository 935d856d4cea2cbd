"""The feed: a rank's share of a data set as shuffled batches, read from Parquet while the loop computes."""

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.inputs.batch import Batch, Columns, IdLists
from training.inputs.plan import Block, CompletedSteps, EpochPlan, RowSelection
from training.inputs.row_groups import LocalCache, read_row_groups, row_group_sizes

T = TypeVar("T")


@dataclass(frozen=True)
class FeedSpec:
    """What to read and how: folder of the split, its columns, and which rank reads."""

    folder: Path
    columns: Columns
    batch_size: int
    rank: int = 0
    world_size: int = 1
    shuffle_rows: int = 0
    """Rows in the shuffle buffer, after row groups were shuffled; 0 keeps the order of the files."""
    seed: int = 0
    threads: int = 2
    """Threads that read row groups."""
    prefetch: int = 4
    """Batches prepared ahead in a thread; 0 prepares each when it is asked for."""
    cache: LocalCache | None = None

    def plan(self, epoch: int, completed: CompletedSteps = ()) -> EpochPlan:
        """Which rank reads which rows in `epoch`, after the steps that are `completed`."""
        sizes = row_group_sizes(self.folder)
        return EpochPlan(sizes, self.batch_size, self.world_size, self.shuffle_rows, self.seed, epoch, completed)

    def num_steps(self, epoch: int = 0, completed: CompletedSteps = ()) -> int:
        """Batches still to come in `epoch`, the same on every rank."""
        return self.plan(epoch, completed).num_steps()


def read_epoch(spec: FeedSpec, epoch: int, completed: CompletedSteps = ()) -> Iterator[Batch]:
    """Batches of this rank's share of an epoch, or of what is left of it.

    The order follows from seed, epoch and world size alone, so training can resume within an epoch.

    Args:
        spec: what to read, and as which rank.
        epoch: number of the epoch; every epoch has another order.
        completed: steps of it that have been made, see `CompletedSteps`.

    Returns:
        `spec.num_steps(epoch, completed)` batches of `spec.batch_size` rows, the same number on every rank. Over all
        ranks each row comes once; the last batch of a rank is filled up with rows of weight 0.
    """
    batches = _padded_batches(spec, epoch, completed)  # lazy: nothing is read before the first `next`
    return _prefetched(batches, spec.prefetch) if spec.prefetch else batches


def _padded_batches(spec: FeedSpec, epoch: int, completed: CompletedSteps) -> Iterator[Batch]:
    plan = spec.plan(epoch, completed)
    blocks = list(plan.blocks(spec.rank))
    steps = plan.num_steps()
    batch = None
    for batch in _shuffled_batches(spec, blocks) if spec.shuffle_rows else _ordered_batches(spec, blocks):
        yield batch.pad_to(spec.batch_size)
        steps -= 1
    if steps:
        # A share that is a row smaller can need a batch less: all ranks must step together, or averaging hangs.
        template = batch if batch is not None else next(_read_groups(spec, [0]))
        for _ in range(steps):
            yield template.padding(spec.batch_size)


def _shuffled_batches(spec: FeedSpec, blocks: list[Block]) -> Iterator[Batch]:
    """Each block is assembled with every row at its shuffled position, so that batches are slices: one copy a row."""
    parts = _read_selections(spec, [selection for block in blocks for selection in block.selections])
    for block in blocks:
        positions = block.positions()
        if positions is None:
            raise ValueError("a block without a shuffle seed, in a feed that shuffles")
        shuffled = _scatter([next(parts) for _ in block.selections], positions)
        yield from _slices(shuffled, spec.batch_size, block.skip)


def _scatter(parts: list[Batch], positions: NDArray[np.int64]) -> Batch:
    """The rows of all `parts`, row i at `positions[i]`."""

    def scatter(tensors: list[Tensor]) -> Tensor:
        output = torch.empty((len(positions), *tensors[0].shape[1:]), dtype=tensors[0].dtype)
        rows, start = output.numpy(), 0
        for tensor in tensors:
            rows[positions[start : start + len(tensor)]] = tensor.numpy()
            start += len(tensor)
        return output

    order = np.empty(0, np.int64)
    if parts[0].lists:
        # Lists of ids have no fixed width to scatter: they are gathered, by the inverse permutation.
        order = np.empty(len(positions), np.int64)  # (rows,) the row at each position
        order[positions] = np.arange(len(positions))
    images = [part.image for part in parts if part.image is not None]
    return Batch(
        scatter([part.sparse for part in parts]),
        scatter([part.dense for part in parts]),
        scatter([part.label for part in parts]),
        scatter([part.weight for part in parts]),
        tuple(IdLists.concat(list(lists))[order] for lists in zip(*(part.lists for part in parts), strict=True)),
        scatter(images) if images else None,
    )


def _ordered_batches(spec: FeedSpec, blocks: list[Block]) -> Iterator[Batch]:
    """Batches in the order of the files: views of a row group, but for those that cross its end."""
    to_skip = blocks[0].skip if blocks else 0  # only the first block can have been read in part
    remainder: Batch | None = None
    for part in _read_selections(spec, [selection for block in blocks for selection in block.selections]):
        if to_skip >= len(part):
            to_skip -= len(part)
            continue
        part = part[to_skip : len(part)] if to_skip else part
        to_skip = 0
        if remainder is not None:
            missing = min(spec.batch_size - len(remainder), len(part))
            remainder, part = Batch.concat([remainder, part[:missing]]), part[missing : len(part)]
            if len(remainder) < spec.batch_size:
                continue
            yield remainder
        full = len(part) - len(part) % spec.batch_size  # rows that fill whole batches
        yield from _slices(part[:full], spec.batch_size)
        remainder = part[full : len(part)] if full < len(part) else None
    if remainder is not None:
        yield remainder


def _slices(block: Batch, size: int, start: int = 0) -> Iterator[Batch]:
    for first in range(start, len(block), size):
        yield block[first : min(first + size, len(block))]


def _read_selections(spec: FeedSpec, selections: list[RowSelection]) -> Iterator[Batch]:
    """The rows of each selection; neighbours of the same row group share one read of it."""
    is_new = [i == 0 or selections[i - 1].group != selection.group for i, selection in enumerate(selections)]
    groups = _read_groups(spec, [s.group for s, new in zip(selections, is_new, strict=True) if new])
    for selection, new in zip(selections, is_new, strict=True):
        if new:
            group = next(groups)
        rows = selection.rows
        if isinstance(rows, range):
            # A slice makes views instead of copies, and a whole row group needs neither.
            yield group if len(rows) == len(group) else group[rows.start : rows.stop]
        else:
            yield group[rows]


def _read_groups(spec: FeedSpec, groups: list[int]) -> Iterator[Batch]:
    return read_row_groups(spec.folder, spec.columns, groups, threads=spec.threads, cache=spec.cache)


def _prefetched(items: Iterator[T], size: int) -> Iterator[T]:
    """The same items, up to `size` of them prepared in a thread while the caller works on those before."""
    ready: queue.Queue[T | BaseException | None] = queue.Queue(size)
    stopped = threading.Event()

    def put(item: T | BaseException | None) -> None:
        # With a timeout: a caller that stops early would leave the thread waiting for room forever.
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return

    def produce() -> None:
        try:
            for item in items:
                put(item)
                if stopped.is_set():
                    break
            put(None)  # the end of the items
        except BaseException as error:  # raised again where the next batch is asked for
            put(error)

    # A thread, not a process: Arrow's decoding and numpy's copies release the interpreter lock.
    thread = threading.Thread(target=produce, daemon=True)
    thread.start()
    try:
        while True:
            item = ready.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()
