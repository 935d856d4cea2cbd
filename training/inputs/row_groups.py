"""Row groups through Petastorm's reader, each as the tensors of a `Batch`.

Petastorm lists the files, reads their row groups in threads and caches them on a local disk; what is ours is that a row
group becomes a few tensors at once instead of an array for each column, and that they come in the order asked for.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from petastorm.arrow_reader_worker import ArrowReaderWorker
from petastorm.cache import NullCache
from petastorm.local_disk_cache import LocalDiskCache
from petastorm.reader import Reader
from petastorm.workers_pool import EmptyResultError
from petastorm.workers_pool.thread_pool import ThreadPool
from petastorm.workers_pool.ventilator import ConcurrentVentilator

from conf import UserError
from training.inputs.batch import Batch, Columns, Ids
from training.inputs.petastorm_arrow import require_mended

ROWS_AT_ONCE = 2048  # columns are set side by side for so many rows at a time, which stay in the processor's cache


@dataclass(frozen=True)
class LocalCache:
    """Row groups kept on a local disk, for data sets on slow stores."""

    folder: Path
    size_limit_gb: float


def row_group_sizes(folder: Path) -> tuple[int, ...]:
    """Rows of each row group in the order in which Petastorm numbers them: by file name, then place."""
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise UserError(f"no Parquet files in {folder}")
    return tuple(
        meta.row_group(i).num_rows
        for file in files
        for meta in [pq.read_metadata(file)]
        for i in range(meta.num_row_groups)
    )


def read_row_groups(
    folder: Path, columns: Columns, groups: Sequence[int], *, threads: int, cache: LocalCache | None = None
) -> Iterator[Batch]:
    """The row groups numbered `groups`, one `Batch` each, in that order."""
    require_mended()
    if not groups:
        return
    reader = _Reader(folder, columns, groups, threads, cache)
    waiting: dict[int, Batch] = {}
    next_number = 0
    with reader:
        for number, rows in reader:
            waiting[number] = rows
            while next_number in waiting:
                yield waiting.pop(next_number)
                next_number += 1
    if next_number != len(groups):
        raise RuntimeError(f"{len(groups) - next_number} of {len(groups)} row groups of {folder} were not read")


class _Reader(Reader):  # type: ignore[misc]
    """Petastorm's reader over chosen row groups; each result is (place in `groups`, Batch)."""

    def __init__(
        self, folder: Path, columns: Columns, groups: Sequence[int], threads: int, cache: LocalCache | None
    ) -> None:
        self._groups = list(groups)
        worker = type("Worker", (_Worker,), {"columns": columns})
        super().__init__(
            _local_files(),
            str(folder),
            schema_fields=[f"^{name}$" for name in columns.names],
            reader_pool=ThreadPool(threads, results_queue_size=4 * threads),
            worker_class=worker,
            is_batched_reader=True,
            shuffle_row_groups=False,
            num_epochs=1,
            cache=_disk_cache(cache),
        )

    def _filter_row_groups(self, *_: Any) -> tuple[list[int], None]:
        return self._groups, None

    def _create_ventilator(self, groups: list[int], *rest: Any) -> ConcurrentVentilator:
        *_, queue_size, _seed = rest
        items = [{"piece_index": group, "number": number} for number, group in enumerate(groups)]
        return ConcurrentVentilator(
            self._workers_pool.ventilate, items, max_ventilation_queue_size=queue_size, ventilation_interval=0.001
        )


class _Results:
    """Hands a worker's results on as they are."""

    batched_output = True

    def read_next(self, workers_pool: ThreadPool, _schema: Any, _ngram: Any) -> tuple[int, Batch]:
        try:
            result: tuple[int, Batch] = workers_pool.get_results()
        except EmptyResultError:
            raise StopIteration from None
        return result


class _Worker(ArrowReaderWorker):  # type: ignore[misc]
    """A reading thread: one row group at a time, from file to tensors."""

    columns: Columns

    @staticmethod
    def new_results_queue_reader() -> _Results:
        return _Results()

    def process(self, piece_index: int, number: int) -> None:
        piece = self._split_pieces[piece_index]
        key = f"{piece.path}:{piece.row_group}:{','.join(self.columns.names)}"
        arrays = self._local_cache.get(key, lambda: self._load(piece))
        self.publish_func((number, _as_batch(arrays)))

    def _load(self, piece: Any) -> dict[str, Any]:
        table = _open(piece.path).read_row_group(piece.row_group, columns=self.columns.names)
        columns = self.columns
        tensors: dict[str, Any] = {
            "sparse": _side_by_side(table, columns.sparse, np.int64),
            "dense": _side_by_side(table, columns.dense, np.float32),
            "label": _side_by_side(table, columns.labels, np.float32),
            "lists": [_lists(table, name) for name in columns.lists],
        }
        if len(columns.labels) == 1:
            tensors["label"] = tensors["label"].reshape(-1)
        weight = columns.weight
        tensors["weight"] = (
            _side_by_side(table, (weight,), np.float32).reshape(-1) if weight else np.ones(len(table), np.float32)
        )
        if columns.image:
            field = self._schema.fields[columns.image]
            # (height, width, channels) becomes (channels, height, width).
            pixels = [_pixels(field, value.as_py()) for value in table[columns.image]]
            tensors["image"] = np.stack(pixels).transpose(0, 3, 1, 2).copy()
        return tensors


def _pixels(field: Any, data: bytes) -> NDArray[np.uint8]:
    """(height, width, 3) by the codec that wrote them; where none is known, they are a file of an image."""
    if field.codec is not None:
        pixels: NDArray[np.uint8] = field.codec.decode(field, data)
        return pixels
    import cv2

    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if decoded is None:
        raise UserError(f"column {field.name} holds what is no image")
    return np.asarray(decoded[:, :, ::-1], np.uint8)


_files = threading.local()


def _open(path: str) -> pq.ParquetFile:
    """The file, opened once for the row groups that a thread reads one after the other."""
    if getattr(_files, "path", None) != path:
        _files.path, _files.file = path, pq.ParquetFile(path, memory_map=True)
    return _files.file


def _side_by_side(table: pa.Table, names: Sequence[str], dtype: type) -> NDArray[Any]:
    """(rows, columns), filled a stretch of rows at a time: three times as fast as column by column."""
    columns = [_array(table, name, dtype) for name in names]
    matrix: NDArray[Any] = np.empty((len(table), len(names)), dtype)
    if columns:
        for first in range(0, len(table), ROWS_AT_ONCE):
            part = slice(first, first + ROWS_AT_ONCE)
            np.stack([column[part] for column in columns], axis=1, out=matrix[part], casting="same_kind")
    return matrix


def _array(table: pa.Table, name: str, dtype: type) -> NDArray[Any]:
    column = table[name].combine_chunks() if table[name].num_chunks != 1 else table[name].chunk(0)
    if column.null_count and not np.issubdtype(dtype, np.floating):
        raise UserError(f"column {name} has {column.null_count} missing ids in a row group; ids can't be missing")
    values: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return values if values.dtype == dtype else values.astype(dtype)


def _lists(table: pa.Table, name: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids and offsets of a column of lists; a missing list is an empty one."""
    column = table[name].combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks else pa.array([], column.type)
    lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    ids = column.flatten().to_numpy(zero_copy_only=False).astype(np.int64, copy=False)
    return ids, np.concatenate([np.zeros(1, np.int64), lengths.cumsum()])


def _as_batch(arrays: dict[str, Any]) -> Batch:
    # What comes from Arrow's memory or the cache is not always writable, and torch warns of that.
    tensors = {name: torch.from_numpy(arrays[name]) for name in ("sparse", "dense", "label", "weight")}
    lists = tuple(Ids(torch.tensor(ids), torch.from_numpy(offsets)) for ids, offsets in arrays["lists"])
    return Batch(**tensors, lists=lists, image=torch.from_numpy(arrays["image"]) if "image" in arrays else None)


def _local_files() -> Any:
    from fsspec.implementations.local import LocalFileSystem

    return LocalFileSystem()


def _disk_cache(cache: LocalCache | None) -> Any:
    if cache is None:
        return NullCache()
    return LocalDiskCache(str(cache.folder), int(cache.size_limit_gb * 2**30), 1000, cleanup=False)
