"""Row groups of Parquet files through Petastorm's threads and disk cache, each as the tensors of a `Batch`.

Petastorm's own readers make an array for each column and choose the order themselves. Here its public parts (listing of
row groups, schema, thread pool, disk cache) are put together so that a row group becomes a few tensors at once, and
that row groups come in the order of the plan.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from fsspec.implementations.local import LocalFileSystem
from numpy.typing import NDArray
from petastorm.arrow_legacy import ParquetDataset
from petastorm.cache import NullCache
from petastorm.etl.dataset_metadata import infer_or_load_unischema, load_row_groups
from petastorm.local_disk_cache import LocalDiskCache
from petastorm.workers_pool import EmptyResultError
from petastorm.workers_pool.thread_pool import ThreadPool
from petastorm.workers_pool.ventilator import ConcurrentVentilator
from petastorm.workers_pool.worker_base import WorkerBase

from conf import UserError
from features.id_ranges import check_finite, check_ids
from training.inputs.batch import Batch, Columns, IdLists
from training.inputs.petastorm_readers import require_patched_build

STACK_ROWS = 2048  # columns are stacked for so many rows at a time, which stay in the processor's cache
QUEUE_PER_THREAD = 4  # row groups that a thread may have waiting: enough never to idle, few enough for memory


@dataclass(frozen=True)
class LocalCache:
    """Row groups cached on a local disk, for data sets on slow stores."""

    folder: Path
    size_limit_gb: float


@lru_cache(maxsize=64)
def row_group_sizes(folder: Path) -> tuple[int, ...]:
    """Rows of each row group, in the order in which Petastorm numbers them: by file name, then within the file.

    Read from the files' footers, once a process: published data sets never change.

    Raises UserError when there are no Parquet files in `folder`.
    """
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise UserError(f"no Parquet files in {folder}")
    return tuple(
        metadata.row_group(i).num_rows
        for metadata in map(pq.read_metadata, files)
        for i in range(metadata.num_row_groups)
    )


def read_row_groups(
    folder: Path, columns: Columns, groups: Sequence[int], *, threads: int, cache: LocalCache | None = None
) -> Iterator[Batch]:
    """The row groups numbered `groups` (see `row_group_sizes`), one `Batch` each, in the order of `groups`.

    Raises:
        UserError: another build of Petastorm is installed, an id is missing (null) or out of its range, a number is
            not finite, or an image can't be decoded.
        RuntimeError: fewer row groups came than were asked for.
    """
    require_patched_build()
    if not groups:
        return
    dataset = ParquetDataset(str(folder), filesystem=LocalFileSystem())
    # Only images need the schema, for their codec; it is unpickled, so it is better left alone otherwise.
    schema = infer_or_load_unischema(dataset) if columns.image else None
    row_groups = load_row_groups(dataset)
    pool = ThreadPool(threads, results_queue_size=QUEUE_PER_THREAD * threads)
    ventilator = ConcurrentVentilator(
        pool.ventilate,
        [{"row_group": row_groups[group], "position": position} for position, group in enumerate(groups)],
        max_ventilation_queue_size=QUEUE_PER_THREAD * threads,
        ventilation_interval=0.001,
    )
    pool.start(_RowGroupLoader, (columns, schema, _disk_cache(cache)), ventilator)
    try:
        yield from _in_order(pool, len(groups))
    except EmptyResultError:
        raise RuntimeError(f"not all of {len(groups)} row groups of {folder} were read") from None
    finally:
        pool.stop()
        pool.join()


def _in_order(pool: ThreadPool, num_groups: int) -> Iterator[Batch]:
    """The pool's results by position, whatever the order in which its threads finish."""
    early: dict[int, Batch] = {}
    for next_position in range(num_groups):
        while next_position not in early:
            position, batch = pool.get_results()
            if isinstance(batch, UserError):
                raise batch
            early[position] = batch
        yield early.pop(next_position)


def _disk_cache(cache: LocalCache | None) -> Any:
    if cache is None:
        return NullCache()
    row_bytes = 1000  # Petastorm only checks with it that the cache is not absurdly small
    return LocalDiskCache(str(cache.folder), int(cache.size_limit_gb * 2**30), row_bytes, cleanup=False)


class _RowGroupLoader(WorkerBase):  # type: ignore[misc]
    """Work of a reading thread: one row group at a time, from file to tensors."""

    def __init__(self, worker_id: int, publish: Any, arguments: tuple[Columns, Any, Any]) -> None:
        super().__init__(worker_id, publish, arguments)
        self._columns, self._schema, self._cache = arguments

    def process(self, row_group: Any, position: int) -> None:
        """Publish (position, Batch) of a row group, from the cache or its file; an error of its data is published, too.

        Petastorm would print the stack of one that is raised here.
        """
        try:
            self.publish_func((position, self._read(row_group)))
        except UserError as error:
            self.publish_func((position, error))

    def _read(self, row_group: Any) -> Batch:
        # With the columns: models that read others of the same file have entries of their own.
        key = f"{row_group.path}:{row_group.row_group}:{','.join(self._columns.names)}"
        arrays = self._cache.get(key, lambda: self._load(row_group))
        self._check(arrays, f"row group {row_group.row_group} of {row_group.path}")
        return Batch(
            torch.from_numpy(arrays["sparse"]),
            torch.from_numpy(arrays["dense"]),
            torch.from_numpy(arrays["label"]),
            torch.from_numpy(arrays["weight"]),
            # Copied: ids can be a view of Arrow's read-only memory, of which torch warns.
            tuple(IdLists(torch.tensor(ids), torch.from_numpy(offsets)) for ids, offsets in arrays["lists"]),
            torch.from_numpy(arrays["image"]) if "image" in arrays else None,
        )

    def _check(self, arrays: dict[str, Any], place: str) -> None:
        columns = self._columns
        if columns.sparse_sizes:
            check_ids(arrays["sparse"], columns.sparse_sizes, columns.sparse, place)
        if columns.list_sizes:
            for name, size, (ids, _) in zip(columns.lists, columns.list_sizes, arrays["lists"], strict=True):
                check_ids(ids[:, None], [size], [name], place)
        check_finite(arrays["dense"], columns.dense, place)

    def _load(self, row_group: Any) -> dict[str, Any]:
        """Arrays, not tensors: they are what the disk cache pickles."""
        columns = self._columns
        table = _open(row_group.path).read_row_group(row_group.row_group, columns=columns.names)
        label = _stacked(table, columns.labels, np.float32)  # (rows, labels)
        weight = _stacked(table, (columns.weight,), np.float32) if columns.weight else np.ones(len(table), np.float32)
        arrays: dict[str, Any] = {
            "sparse": _stacked(table, columns.sparse, np.int64),
            "dense": _stacked(table, columns.dense, np.float32),
            "label": label.reshape(-1) if len(columns.labels) == 1 else label,
            "weight": weight.reshape(-1),
            "lists": [_ids_and_offsets(table, name) for name in columns.lists],
        }
        if columns.image:
            field = self._schema.fields[columns.image]
            # (rows, height, width, channels), as codecs and image files have it
            pixels = np.stack([_decode(field, image.as_py()) for image in table[columns.image]])
            arrays["image"] = pixels.transpose(0, 3, 1, 2).copy()  # (rows, channels, height, width), as torch wants it
        return arrays


def _decode(field: Any, data: bytes) -> NDArray[np.uint8]:
    """(height, width, 3) RGB, by the codec that wrote it, or as an image file where the column has no codec."""
    if field.codec is not None:
        decoded: NDArray[np.uint8] = field.codec.decode(field, data)
        return decoded
    import cv2

    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise UserError(f"column {field.name} holds bytes that are not an image")
    return np.asarray(image[:, :, ::-1], np.uint8)  # OpenCV decodes to BGR


_open_files = threading.local()  # pyarrow does not promise that threads can share a file


def _open(path: str) -> pq.ParquetFile:
    """The file, opened once for the row groups that a thread reads one after the other."""
    if getattr(_open_files, "path", None) != path:
        # Mapped: uncompressed pages are not copied, and workers on one machine share the page cache.
        _open_files.path, _open_files.file = path, pq.ParquetFile(path, memory_map=True)
    return _open_files.file


def _stacked(table: pa.Table, names: Sequence[str], dtype: type) -> NDArray[Any]:
    """(rows, columns), filled a stretch of rows at a time: three times as fast as column by column."""
    columns = [_to_numpy(table, name, dtype) for name in names]
    stacked: NDArray[Any] = np.empty((len(table), len(names)), dtype)
    if columns:  # np.stack refuses an empty list: a model of images has no fields
        for first in range(0, len(table), STACK_ROWS):
            part = slice(first, first + STACK_ROWS)
            np.stack([column[part] for column in columns], axis=1, out=stacked[part], casting="same_kind")
    return stacked


def _to_numpy(table: pa.Table, name: str, dtype: type) -> NDArray[Any]:
    column = table[name].combine_chunks() if table[name].num_chunks != 1 else table[name].chunk(0)
    if column.null_count and not np.issubdtype(dtype, np.floating):
        raise UserError(f"column {name} has {column.null_count} missing ids in a row group; ids can't be missing")
    values: NDArray[Any] = column.to_numpy(zero_copy_only=False)  # null numbers and labels become NaN
    return values if values.dtype == dtype else values.astype(dtype)


def _ids_and_offsets(table: pa.Table, name: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids and offsets of a column of lists, as `IdLists` has them; a null list is an empty one."""
    column = table[name].combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks else pa.array([], column.type)
    # Lengths, not Arrow's own offsets: those of a null list may span ids that `flatten` leaves out.
    lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    ids = column.flatten().to_numpy(zero_copy_only=False).astype(np.int64, copy=False)
    return ids, np.concatenate([np.zeros(1, np.int64), lengths.cumsum()])
