"""The feed: row groups of a data set, through Petastorm, as shuffled batches of a few contiguous tensors."""

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from training.inputs.batch import Batch, Columns, Ids
from training.inputs.plan import Block, Done, Piece, Plan
from training.inputs.row_groups import LocalCache, read_row_groups, row_group_sizes

T = TypeVar("T")


@dataclass(frozen=True)
class FeedSpec:
    """What to read and how: folder of the data set, its columns, and who reads which share."""

    folder: Path
    columns: Columns
    batch_size: int
    rank: int = 0
    world_size: int = 1
    shuffle_rows: int = 0
    """Rows in the shuffle buffer, after row groups were shuffled; 0 keeps the order of the files."""
    seed: int = 0
    threads: int = 2
    prefetch: int = 4
    """Batches made ahead in a thread; 0 makes them when they are asked for."""
    cache: LocalCache | None = None

    def plan(self, number: int, done: Done = ()) -> Plan:
        """Who reads what in the epoch `number`, of which some steps may be `done`."""
        sizes = _sizes(self.folder)
        return Plan(sizes, self.batch_size, self.world_size, self.shuffle_rows, self.seed, number, done)

    def num_steps(self, number: int = 0, done: Done = ()) -> int:
        """Batches of the epoch that are left, the same on every rank."""
        return self.plan(number, done).num_steps()


@lru_cache(maxsize=64)
def _sizes(folder: Path) -> tuple[int, ...]:
    """Published data sets never change, so their footers are read once."""
    return row_group_sizes(folder)


def epoch(spec: FeedSpec, number: int, done: Done = ()) -> Iterator[Batch]:
    """Every row of this rank's share once, in `spec.num_steps(number, done)` batches of `batch_size` rows.

    Every rank makes the same number of steps; the last batch of a rank is filled with rows of weight 0. The order
    follows from seed, epoch and number of ranks alone, so an epoch can be gone on with after the steps `done`.
    """
    batches = _epoch(spec, number, done)
    return _ahead(batches, spec.prefetch) if spec.prefetch else batches


def in_order(spec: FeedSpec) -> FeedSpec:
    """The same share in the order of the files."""
    return replace(spec, shuffle_rows=0)


def _epoch(spec: FeedSpec, number: int, done: Done) -> Iterator[Batch]:
    plan = spec.plan(number, done)
    blocks = list(plan.blocks(spec.rank))
    steps = plan.num_steps()
    batch = None
    for batch in _shuffled(spec, blocks) if spec.shuffle_rows else _as_they_stand(spec, blocks):
        yield batch.padded(spec.batch_size)
        steps -= 1
    if steps:
        like = batch if batch is not None else next(_row_groups(spec, [0]))
        for _ in range(steps):
            yield like.nothing(spec.batch_size)


def _shuffled(spec: FeedSpec, blocks: list[Block]) -> Iterator[Batch]:
    """Each block is put together with every row at its place at once, so its batches are slices of it."""
    parts = _pieces(spec, [piece for pieces, _, _ in blocks for piece in pieces])
    for pieces, draw, skipped in blocks:
        places = draw()
        if places is None:
            raise ValueError("blocks of a plan without a buffer")
        block = _placed([next(parts) for _ in pieces], places)
        yield from _sliced(block, spec.batch_size, skipped)


def _placed(parts: list[Batch], places: NDArray[np.int64]) -> Batch:
    """The rows of all parts, row i at `places[i]`."""
    rows = len(places)
    first = parts[0]

    def scattered(of: Callable[[Batch], torch.Tensor]) -> torch.Tensor:
        output = torch.empty((rows, *of(first).shape[1:]), dtype=of(first).dtype)
        into, start = output.numpy(), 0
        for part in parts:
            into[places[start : start + len(part)]] = of(part).numpy()
            start += len(part)
        return output

    lists: tuple[Ids, ...] = ()
    if first.lists:
        order = np.empty(rows, np.int64)
        order[places] = np.arange(rows)
        lists = tuple(Ids.joined([part.lists[i] for part in parts])[order] for i in range(len(first.lists)))
    return Batch(
        scattered(lambda part: part.sparse),
        scattered(lambda part: part.dense),
        scattered(lambda part: part.label),
        scattered(lambda part: part.weight),
        lists,
        None if first.image is None else scattered(_image),
    )


def _image(part: Batch) -> torch.Tensor:
    if part.image is None:
        raise ValueError("a row group without images")
    return part.image


def _as_they_stand(spec: FeedSpec, blocks: list[Block]) -> Iterator[Batch]:
    """Batches in order: views of a row group, but where one crosses its end."""
    skipped = blocks[0][2] if blocks else 0
    remainder: Batch | None = None
    for part in _pieces(spec, [piece for pieces, _, _ in blocks for piece in pieces]):
        if skipped >= len(part):
            skipped -= len(part)
            continue
        part = part[skipped : len(part)] if skipped else part
        skipped = 0
        if remainder is not None:
            missing = min(spec.batch_size - len(remainder), len(part))
            remainder, part = Batch.joined([remainder, part[:missing]]), part[missing : len(part)]
            if len(remainder) < spec.batch_size:
                continue
            yield remainder
        full = len(part) - len(part) % spec.batch_size
        yield from _sliced(part[:full], spec.batch_size, 0)
        remainder = part[full : len(part)] if full < len(part) else None
    if remainder is not None:
        yield remainder


def _sliced(block: Batch, size: int, first: int) -> Iterator[Batch]:
    for start in range(first, len(block), size):
        yield block[start : min(start + size, len(block))]


def _pieces(spec: FeedSpec, pieces: list[Piece]) -> Iterator[Batch]:
    """The rows of each piece; pieces of one row group that follow each other read it once."""
    starts = [i for i, piece in enumerate(pieces) if i == 0 or pieces[i - 1].group != piece.group]
    groups = _row_groups(spec, [pieces[i].group for i in starts])
    new = set(starts)
    for i, piece in enumerate(pieces):
        if i in new:
            rows = next(groups)
        yield rows if len(piece) == len(rows) and isinstance(piece.rows, range) else rows[piece.index]


def _row_groups(spec: FeedSpec, groups: list[int]) -> Iterator[Batch]:
    return read_row_groups(spec.folder, spec.columns, groups, threads=spec.threads, cache=spec.cache)


def _ahead(items: Iterator[T], most: int) -> Iterator[T]:
    """The same items, made in a thread while the caller works on those before."""
    ready: queue.Queue[T | BaseException | None] = queue.Queue(most)
    stopped = threading.Event()

    def put(item: T | BaseException | None) -> None:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return

    def work() -> None:
        try:
            for item in items:
                put(item)
                if stopped.is_set():
                    break
            put(None)
        except BaseException as problem:  # it belongs to whoever asks for the next batch
            put(problem)

    thread = threading.Thread(target=work, daemon=True)
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
