"""What rankers read of a day: feature data sets by Arrow, as arrays, and the folders of data sets and runs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from conf import Config, Paths, UserError
from conf.runs import newest_run
from conf.versions import current_version
from features.catalog import DENSE, SPARSE
from features.compatibility import TIMEZONE
from features.dataset.names import WEIGHT, examples_version
from features.id_ranges import check_finite, check_ids

SPARSE_COLUMNS = [f"f_{feature.name}" for feature in SPARSE]
DENSE_COLUMNS = [f"f_{feature.name}" for feature in DENSE]
BATCH_ROWS = 32_768  # that Arrow decodes at a time
BLOCK_ROWS = 65_536  # of `Rows.blocks`
HOT_ITEMS = "hot.parquet"  # of candidates: item_id, published_at and heat (time-decayed positives) of every item


@dataclass(frozen=True)
class Rows:
    """Examples or candidates, one array per kind of column, all of the same length and order."""

    sparse: NDArray[np.integer]  # (rows, sparse fields) indices of the catalog; int32 from data sets, whose ids fit
    dense: NDArray[np.float32]  # (rows, dense features) standardised
    label: NDArray[np.float32]  # (rows,) 1 for a click
    keys: dict[str, Any]  # column -> pandas series (rows,): ids, moments, histories

    def __getitem__(self, part: slice | NDArray[np.integer] | NDArray[np.bool_]) -> "Rows":
        """Some of the rows; of a slice views, not copies."""
        keys = {name: values.iloc[part] for name, values in self.keys.items()}
        return Rows(self.sparse[part], self.dense[part], self.label[part], keys)

    def blocks(self) -> Iterator[slice]:
        """Slices of at most BLOCK_ROWS rows, for work whose intermediate arrays should stay small."""
        for start in range(0, len(self.label), BLOCK_ROWS):
            yield slice(start, min(start + BLOCK_ROWS, len(self.label)))


def read_rows(folder: Path, keys: Sequence[str] = (), *, optional: Sequence[str] = ()) -> Rows:
    """Read a whole data set into memory, in the order of its files: that of time, where its split follows time.

    Args:
        folder: a split of a training set, or a set of candidates.
        keys: columns to read besides features and label, such as `user_id` and `at_s` (seconds since 1970).
        optional: further ones, which data sets of older versions may lack.
    """
    return read_files(parquet_files(folder), keys, optional=optional)


def parquet_files(folder: Path) -> list[Path]:
    """Files of a data set, sorted by name: the features job writes them in the order of time, where the split has one.

    Raises:
        UserError: there are none.
    """
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise UserError(f"no Parquet files in {folder}")
    return files


def read_files(files: Sequence[Path], keys: Sequence[str] = (), *, optional: Sequence[str] = ()) -> Rows:
    """Read some files of a data set into memory, in their order; `keys` and `optional` as in `read_rows`.

    `keys` of the rows have `weight`, too, when the training set was sampled (`features.balance`).

    Raises:
        UserError: a column is missing, an id is not one of its feature, or a number is not finite.
    """
    folder, names = Path(files[0]).parent, pq.read_schema(files[0]).names
    keys = _present_keys(names, [*keys, *(name for name in optional if name in names)])
    columns = _column_names(names, keys, folder)
    rows, start, parts = _empty_rows(sum(pq.read_metadata(file).num_rows for file in files)), 0, []
    for file in files:
        with pq.ParquetFile(file) as parquet:
            _column_names(parquet.schema_arrow.names, keys, folder)  # reading a row group leaves missing columns out
            # A row group at a time: beside the arrays, only ids and moments are ever there as a whole.
            for number in range(parquet.num_row_groups):
                group = parquet.read_row_group(number, columns)
                _fill(rows, start, group, folder, f"{file}, row group {number}")
                parts.append(group.select(keys))
                start += group.num_rows
    key_table = pa.concat_tables(parts) if parts else pq.read_table(files[0], columns=keys)
    return replace(rows, keys=_to_series(key_table, keys))


def user_blocks(folder: Path, keys: Sequence[str], max_rows: int) -> Iterator[Rows]:
    """Read a set of candidates a block of users at a time: no user is in two blocks.

    Args:
        folder: of the set, whose files hold each user's rows together, as `write_candidates` leaves them.
        keys: as in `read_rows`, with user_id.
        max_rows: of a block; more only where a single user has more.

    Returns:
        Blocks in the order of the files; one without rows when the set has none.

    Raises:
        UserError: as `read_files`.
    """
    files = parquet_files(folder)
    schema = pq.read_schema(files[0])
    keys = _present_keys(schema.names, keys)
    columns = _column_names(schema.names, keys, folder)
    block, num_blocks = pa.schema([schema.field(name) for name in columns]).empty_table(), 0
    for file in files:
        with pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(min(max_rows, BATCH_ROWS), columns=columns):
                block = pa.concat_tables([block, pa.Table.from_batches([batch]).cast(block.schema)])
                while block.num_rows >= max_rows and (end := _end_of_block(block["user_id"].to_numpy(), max_rows)):
                    yield _to_rows(block.slice(0, end), keys, folder, str(file))
                    block, num_blocks = block.slice(end), num_blocks + 1
    if block.num_rows or not num_blocks:
        yield _to_rows(block, keys, folder, str(files[-1]))


def _end_of_block(user: NDArray[np.object_], max_rows: int) -> int:
    """Where the last user begins that starts within `max_rows`: rows before are of whole users; 0 for a single user."""
    starts = np.flatnonzero(user[1:] != user[:-1]) + 1
    if not len(starts):
        return 0
    # The first user of more rows than a block has is a block of their own.
    return int(starts[max(int(np.searchsorted(starts, max_rows, side="right")) - 1, 0)])


def num_rows(folder: Path) -> int:
    """Rows of a data set, from the files' footers."""
    return sum(pq.read_metadata(file).num_rows for file in parquet_files(folder))


def _present_keys(names: Sequence[str], keys: Sequence[str]) -> list[str]:
    """`keys`, and the weight where the set has one."""
    return [*keys, *([WEIGHT] if WEIGHT in names else [])]


def _column_names(names: Sequence[str], keys: Sequence[str], folder: Path) -> list[str]:
    """Columns to read of a data set that has the columns `names`."""
    columns = [*SPARSE_COLUMNS, *DENSE_COLUMNS, "label", *keys]
    if missing := [name for name in columns if name not in names]:
        raise UserError(
            f"{folder} has no column {', '.join(missing)}: it was built with other features; build it again"
        )
    return columns


def _to_rows(table: pa.Table, keys: Sequence[str], folder: Path, place: str) -> Rows:
    rows = _empty_rows(table.num_rows)
    _fill(rows, 0, table, folder, place)
    return replace(rows, keys=_to_series(table, keys))


def _empty_rows(count: int) -> Rows:
    """Arrays to fill; ids are below MAX_BUCKETS, which 32 bits hold: half of what Parquet has."""
    sparse, dense = np.empty((count, len(SPARSE)), np.int32), np.empty((count, len(DENSE)), np.float32)
    return Rows(sparse, dense, np.empty(count, np.float32), {})


def _fill(rows: Rows, start: int, table: pa.Table, folder: Path, place: str) -> None:
    """Copy features and labels of a table to the rows from `start` on, a column at a time."""
    if missing := [name for name in SPARSE_COLUMNS if table[name].null_count]:
        raise UserError(f"{folder} has rows without {', '.join(missing)}; ids can't be missing: build it again")
    part = slice(start, start + table.num_rows)
    for position, (name, feature) in enumerate(zip(SPARSE_COLUMNS, SPARSE, strict=True)):
        ids = table[name].to_numpy()
        check_ids(ids[:, None], [feature.buckets], [name], place)  # before 64 bits become 32
        rows.sparse[part, position] = ids
    for position, name in enumerate(DENSE_COLUMNS):
        rows.dense[part, position] = table[name].to_numpy()
    check_finite(rows.dense[part], DENSE_COLUMNS, place)
    rows.label[part] = table["label"].to_numpy()


def _to_series(table: pa.Table, keys: Sequence[str]) -> dict[str, Any]:
    """By pandas: numpy has no strings that may be null, and no lists of different lengths."""
    return {name: table[name].to_pandas() for name in keys}


def concatenate(*parts: Rows) -> Rows:
    """Rows of several data sets with the same keys, one after the other."""
    return Rows(
        sparse=np.concatenate([part.sparse for part in parts]),
        dense=np.concatenate([part.dense for part in parts]),
        label=np.concatenate([part.label for part in parts]),
        keys={name: pd.concat([part.keys[name] for part in parts], ignore_index=True) for name in parts[0].keys},
    )


def examples_folder(config: Config, day: date) -> Path:
    """Folder of a day's published training set, with a subfolder for each of train, valid and test.

    Raises:
        UserError: there is none; the message names the command that builds it.
    """
    folder, _ = examples_version(config, day)
    return folder


def feature_statistics(config: Config, day: date) -> Mapping[str, Any]:
    """Statistics of a day's training rows: means and deviations of the dense features, click rates.

    Raises:
        UserError: there is no training set; the message names the command that builds it.
    """
    _, metadata = examples_version(config, day)
    statistics: Mapping[str, Any] = metadata["statistics"]
    return statistics


def dataset_timezone(config: Config, day: date) -> str:
    """Time zone of the hours and days of a day's training set, by which its models were trained.

    Raises:
        UserError: there is no training set; the message names the command that builds it.
    """
    _, metadata = examples_version(config, day)
    return str(metadata.get(TIMEZONE, "UTC"))  # those of older versions have UTC's and don't say so


def candidates_folder(config: Config, day: date) -> Path:
    """Folder of a day's published candidates, with a subfolder for each of fit, holdout and serve.

    Raises:
        UserError: there are none, or their hours and days are of another time zone than those of the training set; the
            message names the command that proposes them.
    """
    folder, command = config.get(Paths).datasets("candidates", day), f"millrace recsys recall --date {day}"
    version, metadata = current_version(folder, command=command)
    zone, trained = metadata.get(TIMEZONE, "UTC"), dataset_timezone(config, day)
    if zone != trained:
        raise UserError(
            f"the candidates of {day} have hours and days of {zone}, its training set of {trained}: run `{command}`"
        )
    return version


def trained_run(config: Config, model: str, day: date) -> Path:
    """Folder of the newest finished run of a ranker for a day.

    Raises:
        UserError: the ranker was not trained for the day; the message names the command that trains it.
    """
    folder = newest_run(config, model, day)
    if folder is None:
        raise UserError(f"no {model} was trained for {day}: run `millrace recsys run --date {day}`")
    return folder
