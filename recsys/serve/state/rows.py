"""Rows of warehouse tables by Arrow, from the folders that a data set was made from: no Spark is started."""

import logging
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as fs
from numpy.typing import NDArray

from conf import UserError, path_of_url
from features.catalog import SPARSE
from features.dataset.names import SPLITS
from features.transforms.columns import SECONDS_OF_DAY
from recsys.dataset import parquet_files
from recsys.serve.state.publication import Publication

log = logging.getLogger(__name__)

IMPRESSIONS = ["user_id", "item_id", "position", "shown_at", "is_clicked"]
EPOCH = date(1970, 1, 1)
_OPTIONAL = {"context": pa.map_(pa.string(), pa.string()), "device": pa.string()}


def read_partition(url: str, columns: Sequence[str]) -> pa.Table:
    """Columns of the Parquet files in a folder, in any file system that Arrow knows; no rows where it is empty.

    Raises:
        UserError: the folder is gone, as after a `vacuum` when its day was loaded again.
    """
    filesystem, path = _filesystem(url)
    if filesystem.get_file_info(path).type == fs.FileType.NotFound:
        raise UserError(f"{url} is gone: its day was loaded again; run `millrace run --date DAY --from features`")
    dataset = ds.dataset(path, filesystem=filesystem, format="parquet")
    return dataset.to_table(columns=[name for name in columns if name in dataset.schema.names])


def _filesystem(url: str) -> tuple[Any, str]:
    local = path_of_url(url)
    if local is not None:
        return fs.LocalFileSystem(), str(local)
    filesystem, path = fs.FileSystem.from_uri(url)
    return filesystem, path


def newest(publication: Publication, table: str, columns: Sequence[str]) -> pa.Table:
    """Columns of a dimension's snapshot. Raises UserError when the data set was made without one."""
    partitions = publication.sources.get(table)
    if not partitions:
        raise UserError(f"the candidates of {publication.day} do not say which {table} they were made from: run recall")
    return read_partition(partitions[max(partitions)], columns)


def read_impressions(publication: Publication, more: Sequence[str] = ()) -> pa.Table:
    """Labelled examples of the window: user_id, item_id, position, at (seconds), day (since 1970), label, and `more`.

    Of a site without impressions they are the training set's own rows, whose negatives were sampled.
    """
    partitions = publication.sources.get("dwd_impression", {})
    days = []
    for value, url in sorted(partitions.items()):
        rows = read_partition(url, [*IMPRESSIONS, *more, "features"])
        rows = rows.filter(_is_readable(rows["features"])) if "features" in rows.column_names else rows
        day = (date.fromisoformat(value) - EPOCH).days
        days.append(
            rows.select([*IMPRESSIONS, *more]).append_column("day", pa.array(np.full(len(rows), day, np.int32)))
        )
    if sum(map(len, days)):
        table = pa.concat_tables(days, promote_options="permissive")
        at = pc.cast(table["shown_at"], pa.timestamp("us", "UTC")).cast(pa.int64())
        columns = {"at": pc.divide(pc.cast(at, pa.float64()), 1e6), "label": table["is_clicked"]}
        return pa.table({**{n: table[n] for n in ("user_id", "item_id", "position", "day", *more)}, **columns})
    return _examples(publication)


def _examples(publication: Publication) -> pa.Table:
    files = [str(path) for split in SPLITS for path in parquet_files(publication.examples / split)]
    rows = ds.dataset(files).to_table(columns=["user_id", "item_id", "at_s", "label"])
    moments = pc.cast(pc.cast(pc.multiply(rows["at_s"], 1e6), pa.int64(), safe=False), pa.timestamp("us", "UTC"))
    day = np.floor(walls(moments, publication.zone) / SECONDS_OF_DAY).astype(np.int32)
    log.info("no impressions: the counts are those of the %d training rows", len(rows))
    return pa.table(
        {
            "user_id": rows["user_id"],
            "item_id": rows["item_id"],
            "position": pa.nulls(len(rows), pa.int32()),
            "day": day,
            "at": rows["at_s"],
            "label": pc.cast(rows["label"], pa.int32()),
        }
    )


def _is_readable(features: pa.ChunkedArray) -> NDArray[np.bool_]:
    """(rows,) False for impressions that no training set has: see `features.dataset.logged.unreadable_value`."""
    readable = np.ones(len(features), bool)
    if features.null_count == len(features):
        return readable
    for start, chunk in zip(np.cumsum([0, *map(len, features.chunks)]), features.chunks, strict=False):
        offsets = chunk.offsets.to_numpy()  # (rows + 1,) of the chunk, where each map begins in keys and items
        entries = slice(int(offsets[0]), int(offsets[-1]))
        row = start + np.repeat(np.arange(len(chunk)), np.diff(offsets))  # (entries,)
        names = chunk.keys[entries].to_numpy(zero_copy_only=False)
        readable[row[_is_no_id(names, chunk.items[entries])]] = False
    return readable


def _is_no_id(names: NDArray[np.object_], values: pa.Array) -> NDArray[np.bool_]:
    """(entries,) whether a logged value is of a feature of ids, and none of them."""
    numbers, is_null = values.to_numpy(zero_copy_only=False).astype(np.float64), np.asarray(values.is_null())
    is_no_id = np.zeros(len(names), bool)
    for feature in SPARSE:
        if not feature.at_least:
            is_id = (numbers >= 0) & (numbers < feature.buckets) & (numbers == np.floor(numbers))
            is_no_id |= (names == feature.name) & ~is_id & ~is_null
    return is_no_id


def walls(moments: pa.ChunkedArray, zone: str) -> NDArray[np.float64]:
    """(rows,) what the clocks of `zone` show at moments (UTC), in seconds from 1970-01-01T00:00; NaN for null."""
    utc = pc.cast(moments, pa.timestamp("us", "UTC")) if moments.type.tz else pc.assume_timezone(moments, "UTC")
    local = pc.local_timestamp(pc.cast(utc, pa.timestamp("us", zone)))
    micros = pc.cast(pc.cast(local, pa.int64()), pa.float64())
    return np.asarray(micros.to_numpy(), np.float64) / 1e6


def profiles(table: pa.Table, column: str) -> tuple[list[str | None], NDArray[np.int32]]:
    """Distinct texts of a column, ending with None, and (rows,) the code of each row's."""
    values = table[column] if column in table.column_names else pa.chunked_array([pa.nulls(len(table), pa.string())])
    distinct = sorted(value for value in pc.unique(values).to_pylist() if value is not None)
    codes = pc.fill_null(pc.index_in(values, value_set=pa.array(distinct, pa.string())), len(distinct))
    return [*distinct, None], codes.to_numpy().astype(np.int32)


def codes_of(values: pa.ChunkedArray, ids: Mapping[str, Any] | pa.Array) -> NDArray[np.int64]:
    """(rows,) position of each id in `ids`, −1 for none."""
    positions = pc.index_in(values, value_set=ids)  # null for an id that is not among them
    return np.asarray(pc.fill_null(positions, -1).to_numpy(), np.int64)
