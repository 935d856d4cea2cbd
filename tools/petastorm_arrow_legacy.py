"""The few names of pyarrow's retired dataset API that Petastorm 0.13.1 calls, on today's pyarrow.

`tools/wheels.py` puts this file into the Petastorm wheel as `petastorm/arrow_legacy.py`, so it is there in every
process that imports Petastorm (readers' process pools, Ray and Spark workers too). It imports nothing of Millrace.
"""

import os
import posixpath

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem
from pyarrow.parquet import ParquetFile, read_metadata, write_metadata

__all__ = ["LocalFileSystem", "ParquetDataset", "ParquetDatasetPiece", "ParquetFile", "read_metadata", "write_metadata"]


def _is_hidden(name):
    return name.startswith(("_", "."))


class PartitionLevel:
    """One `name=value` folder level: its values, in order of first sight, as an arrow array."""

    def __init__(self, name):
        self.name = name
        self.values = []

    def index_of(self, value):
        if value not in self.values:
            self.values.append(value)
        return self.values.index(value)

    @property
    def keys(self):
        return self.values

    @property
    def is_integer(self):
        return all(value.lstrip("-").isdigit() for value in self.values)

    @property
    def dictionary(self):
        if self.is_integer:
            return pa.array([int(value) for value in self.values], type=pa.int64())
        return pa.array(self.values, type=pa.string())


class PartitionSet:
    """The levels of a Hive-style layout (`dt=2026-01-01/part-0.parquet`)."""

    def __init__(self, names):
        self.levels = [PartitionLevel(name) for name in names]

    @property
    def partition_names(self):
        return {level.name for level in self.levels}

    def __iter__(self):
        return iter(self.levels)

    def __len__(self):
        return len(self.levels)

    def __getitem__(self, i):
        return self.levels[i]


class ParquetDatasetPiece:
    """A file or one row group of it, with the partition keys that its folder gives."""

    def __init__(self, path, open_file_func=open, row_group=None, partition_keys=None):
        self.path = path
        self.open_file_func = open_file_func
        self.row_group = row_group
        self.partition_keys = partition_keys or []

    def _open_file(self):
        try:
            return self.open_file_func(self.path, "rb")
        except TypeError:
            return self.open_file_func(self.path)

    def get_metadata(self):
        with self._open_file() as source:
            return pq.read_metadata(source)

    def read(self, columns=None, partitions=None, **_ignored):
        """Rows as an arrow table, partition keys appended as columns."""
        with self._open_file() as source:
            parquet = ParquetFile(source)
            names = list(columns) if columns is not None else None
            if self.row_group is None:
                table = parquet.read(columns=names)
            else:
                table = parquet.read_row_group(self.row_group, columns=names)
        for level, (name, index) in zip(partitions or [], self.partition_keys, strict=False):
            value = level.dictionary[index]
            table = table.append_column(name, pa.repeat(value, table.num_rows))
        # A reader works on one chunk a column; several row groups of a file would give several.
        return table.combine_chunks()


class ParquetDataset:
    """Files under a folder (or in a list) with `pieces`, `partitions`, `common_metadata`, as pyarrow < 15 gave them."""

    def __init__(self, path_or_paths, filesystem=None, filters=None, **_ignored):
        self.fs = filesystem if filesystem is not None else LocalFileSystem()
        if isinstance(path_or_paths, (list, tuple)) and len(path_or_paths) == 1:
            path_or_paths = path_or_paths[0]
        self.paths = path_or_paths
        files = self._find_files()
        self.partitions = PartitionSet(_level_names(files, self._base())) if files else PartitionSet([])
        self.pieces = [ParquetDatasetPiece(path, self.fs.open, None, self._keys_of(path)) for path in files]
        if filters:
            self.pieces = [piece for piece in self.pieces if self._passes(piece, filters)]
        self.metadata_path = None
        self.metadata = self._read_summary("_metadata")
        self.common_metadata = self._read_summary("_common_metadata")

    def _base(self):
        return self.paths if isinstance(self.paths, str) else posixpath.dirname(self.paths[0])

    def _find_files(self):
        if not isinstance(self.paths, str):
            return list(self.paths)
        if self.fs.isfile(self.paths):
            return [self.paths]
        if not self.fs.exists(self.paths):
            raise OSError("Passed non-file path: {}".format(self.paths))
        paths = []
        for path in sorted(self.fs.find(self.paths)):
            relative = os.path.relpath(path, self.fs._strip_protocol(self.paths))
            if not any(_is_hidden(part) for part in relative.split("/")):
                paths.append(path)
        return paths

    def _keys_of(self, path):
        values = dict(part.split("=", 1) for part in path.split("/")[:-1] if "=" in part)
        return [(level.name, level.index_of(values[level.name])) for level in self.partitions]

    def _read_summary(self, name):
        if not isinstance(self.paths, str) or self.fs.isfile(self.paths):
            return None
        path = self.paths.rstrip("/") + "/" + name
        if not self.fs.exists(path):
            return None
        if name == "_metadata":
            self.metadata_path = path
        with self.fs.open(path, "rb") as source:
            return pq.read_metadata(source)

    def _passes(self, piece, filters):
        """Prune files by partition keys, in pyarrow's disjunctive form; a filter on another column is refused."""
        groups = filters if isinstance(filters[0], list) else [filters]
        values = {
            name: level.dictionary[index].as_py()
            for level, (name, index) in zip(self.partitions, piece.partition_keys, strict=False)
        }
        return any(all(_compare(values, *term) for term in group) for group in groups)


def _level_names(files, base):
    relative = os.path.relpath(files[0], base)
    return [part.split("=", 1)[0] for part in relative.split("/")[:-1] if "=" in part]


_OPERATIONS = {
    "=": lambda a, b: a == b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "in": lambda a, b: a in b,
    "not in": lambda a, b: a not in b,
}


def _compare(values, name, operation, operand):
    if name not in values:
        raise ValueError("filters apply to partition columns only: {} is none of {}".format(name, sorted(values)))
    return _OPERATIONS[operation](values[name], operand)
