"""The feed: row groups of a feature data set, through Petastorm, as batches of a few contiguous tensors."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from conf import UserError, file_url
from training.petastorm_arrow import make_batch_reader

LABEL = "label"


@dataclass(frozen=True)
class Batch:
    """`sparse` (rows, fields) int64, `dense` (rows, features) float32, `label` and `weight` (rows,) float32."""

    sparse: torch.Tensor
    dense: torch.Tensor
    label: torch.Tensor
    weight: torch.Tensor

    def to(self, device: torch.device) -> "Batch":
        return Batch(self.sparse.to(device), self.dense.to(device), self.label.to(device), self.weight.to(device))


@dataclass(frozen=True)
class FeedSpec:
    """What to read and how: folder of the data set, its columns, and who reads which share."""

    folder: Path
    sparse: tuple[str, ...]
    dense: tuple[str, ...]
    batch_size: int
    rank: int = 0
    world_size: int = 1
    shuffle_rows: int = 0
    seed: int = 0

    def num_steps(self) -> int:
        """Batches of an epoch, the same on every rank: as many as the rank with most rows needs."""
        rows = [0] * self.world_size
        for position, count in enumerate(row_group_sizes(self.folder)):
            rows[position % self.world_size] += count
        if min(rows) == 0:
            raise UserError(
                f"{self.folder} has fewer row groups than {self.world_size} workers: set features.files higher"
            )
        return -(-max(rows) // self.batch_size)


def row_group_sizes(folder: Path) -> list[int]:
    """Rows of each row group in the order in which Petastorm numbers them: by file name, then place."""
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise UserError(f"no Parquet files in {folder}")
    return [
        meta.row_group(i).num_rows
        for file in files
        for meta in [pq.read_metadata(file)]
        for i in range(meta.num_row_groups)
    ]


def epoch(spec: FeedSpec, number: int) -> Iterator[Batch]:
    """Every row of this rank's share once, in `spec.num_steps()` batches of `batch_size` rows.

    Ranks' shares are whole row groups and so differ in length: the last batches of a rank are filled with rows of
    weight 0, and every rank makes the same number of steps. The order follows from `seed` and the epoch's number.
    """
    rng = np.random.default_rng([spec.seed, number, spec.rank])
    steps = 0
    for block in _batches(spec, rng, number):
        yield _padded(block, spec.batch_size)
        steps += 1
    for _ in range(spec.num_steps() - steps):
        yield _empty(spec)


def _batches(spec: FeedSpec, rng: np.random.Generator, number: int) -> Iterator[Batch]:
    """Full batches, then the rest."""
    held: list[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]] = []
    rows = 0
    for part in _row_groups(spec, number):
        held.append(part)
        rows += len(part[2])
        if rows >= max(spec.shuffle_rows, spec.batch_size):
            sparse, dense, label = _joined(held, rng if spec.shuffle_rows else None)
            full = rows - rows % spec.batch_size
            yield from _sliced(sparse[:full], dense[:full], label[:full], spec.batch_size)
            held, rows = [(sparse[full:], dense[full:], label[full:])], rows - full
    if rows:
        yield from _sliced(*_joined(held, rng if spec.shuffle_rows else None), spec.batch_size)


def _row_groups(
    spec: FeedSpec, number: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]]:
    columns = [*spec.sparse, *spec.dense, LABEL]
    reader = make_batch_reader(
        file_url(spec.folder),
        schema_fields=columns,
        reader_pool_type="thread",
        workers_count=1,  # two would hand over row groups in an order that changes from run to run
        shuffle_row_groups=bool(spec.shuffle_rows),
        seed=1 + spec.seed + number,  # the shares do not depend on it
        cur_shard=spec.rank,
        shard_count=spec.world_size,
        num_epochs=1,
    )
    with reader:
        for rows in reader:
            sparse = np.stack([getattr(rows, name) for name in spec.sparse], axis=1)
            dense = np.stack([getattr(rows, name) for name in spec.dense], axis=1)
            yield sparse, dense, getattr(rows, LABEL)


def _joined(
    held: list[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]], rng: np.random.Generator | None
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    sparse, dense, label = (np.concatenate([part[i] for part in held]) for i in range(3))
    if rng is None:
        return sparse, dense, label
    order = rng.permutation(len(label))
    return sparse[order], dense[order], label[order]


def _sliced(
    sparse: NDArray[np.int64], dense: NDArray[np.float32], label: NDArray[np.float32], size: int
) -> Iterator[Batch]:
    for first in range(0, len(label), size):
        part = slice(first, first + size)
        weight = torch.ones(len(label[part]))
        yield Batch(
            torch.from_numpy(sparse[part]), torch.from_numpy(dense[part]), torch.from_numpy(label[part]), weight
        )


def _padded(batch: Batch, size: int) -> Batch:
    missing = size - len(batch.label)
    if not missing:
        return batch
    pad = torch.nn.functional.pad
    return Batch(
        pad(batch.sparse, (0, 0, 0, missing)),
        pad(batch.dense, (0, 0, 0, missing)),
        pad(batch.label, (0, missing)),
        pad(batch.weight, (0, missing)),
    )


def _empty(spec: FeedSpec) -> Batch:
    size = spec.batch_size
    sparse = torch.zeros((size, len(spec.sparse)), dtype=torch.int64)
    return Batch(sparse, torch.zeros((size, len(spec.dense))), torch.zeros(size), torch.zeros(size))


def whole(spec: FeedSpec) -> FeedSpec:
    """The same data set, all of it on this rank, in order: for evaluation."""
    return replace(spec, rank=0, world_size=1, shuffle_rows=0)
