"""Files as people pack them: gz, bz2 and zst, which Spark reads as well, and zip, which it doesn't."""

import bz2
import gzip
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from os.path import getsize
from pathlib import Path
from typing import IO

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from conf import UserError

ZIP = ".zip"
PACKED = (".gz", ".bz2", ".zst", ZIP)
_PACKED_SHARE = 0.05  # packed logs are a twentieth as long, or a little more
# What reading a damaged or cut file raises.
CORRUPT = (OSError, EOFError, zlib.error, zipfile.BadZipFile)

# First bytes of packed files, and the end of the name by which they are unpacked.
_SIGNATURES = ((b"\x1f\x8b", ".gz"), (b"BZh", ".bz2"), (b"\x28\xb5\x2f\xfd", ".zst"), (b"PK", ZIP))
_FOREIGN = (
    (b"\xfd7zXZ\0", "is packed with xz: unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive: unpack it"),
    (b"Rar!\x1a\x07", "is a rar archive: unpack it"),
    (b"\x04\x22\x4d\x18", "is packed with lz4: unpack it"),
    (b"\xd0\xcf\x11\xe0", "is an Excel workbook: save it as CSV"),
    (b"ORC", "is ORC: write it as Parquet"),
    (b"Obj\x01", "is Avro: write it as Parquet"),
    (b"ARROW1", "is a Feather file: write it as Parquet"),
    (b"SQLite format 3\0", "is a SQLite database: export its tables as CSV"),
    (b"\x89HDF", "is HDF5: write it as Parquet"),
    (b"\x93NUMPY", "is a NumPy array: write it as Parquet"),
    (b"%PDF", "is a PDF: it has no rows"),
    (b"version https://git-lfs", "is a pointer of Git LFS: `git lfs pull` fetches the file itself"),
)
_TAR_MARK = slice(257, 262)


def unpacked_bytes(files: Iterable[str]) -> float:
    """How long files are together once unpacked, about, by the ends of their names."""
    return sum(getsize(file) / (_PACKED_SHARE if file.endswith(PACKED) else 1) for file in files)


@contextmanager
def open_unpacked(path: str | Path) -> Iterator[IO[bytes]]:
    """The bytes of a file as they were before it was packed, by the end of its name.

    Raises:
        UserError: it can't be opened, is damaged or cut off, or is a zip of several files.
    """
    try:
        with _open(Path(path)) as stream:
            yield stream
    except CORRUPT as error:
        if "too much memory" in str(error):
            raise UserError(f"can't read file {path}: its window is over 128 MB (zstd --long): unpack it") from None
        # Errors of what a file holds have no number.
        cause = error.strerror if isinstance(error, OSError) and error.errno else _cause(Path(path))
        raise UserError(f"can't read file {path}: {cause}; nothing was changed") from None


def foreign_content(path: Path, head: bytes) -> str | None:
    """What a file is by its first bytes, and what to do, where it holds no rows of text; None for others.

    Args:
        path: the file.
        head: its first bytes, unpacked.
    """
    if head[_TAR_MARK] == b"ustar":
        return "is a tar archive: unpack the file to read"
    for signature, text in _FOREIGN:
        if head.startswith(signature):
            return text
    for signature, end in _SIGNATURES:
        if head.startswith(signature):
            if path.suffix in (".xlsx", ".xlsm", ".ods"):
                return "is an Excel workbook: save it as CSV"
            if path.suffix == ".npz":
                return "has NumPy arrays: write them as Parquet"
            # The end of the name decides how Spark unpacks a file, too.
            return f"is packed, though its name does not end with {end}: rename it to {path.stem}{end}"
    start = head[:200].lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    is_page = start.startswith((b"<!doctype html", b"<html", b"<?xml"))
    return "is a web page or XML, and no table: download or export it again" if is_page else None


def _cause(path: Path) -> str:
    """Why a file can't be unpacked: it isn't packed as its name says, or it is damaged."""
    with path.open("rb") as stream:
        head = stream.read(8)
    if path.suffix in PACKED and not any(head.startswith(mark) for mark, end in _SIGNATURES if end == path.suffix):
        return f"it is not packed, though its name ends with {path.suffix}: rename it"
    return "it is corrupt or cut off"


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    if path.suffix == ".gz":
        with gzip.open(path) as stream:
            yield stream  # type: ignore[misc]
    elif path.suffix == ".bz2":
        with bz2.open(path) as stream:
            yield stream
    elif path.suffix == ".zst":
        import pyarrow as pa  # here, as pandas below: most commands read no such file, and importing them takes long

        with pa.OSFile(str(path)) as packed, pa.CompressedInputStream(packed, "zstd") as stream:
            yield stream
    elif path.suffix == ZIP:
        with zipfile.ZipFile(path) as archive, archive.open(_only_member(path, archive)) as stream:
            yield stream
    else:
        with path.open("rb") as stream:
            yield stream


def _only_member(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    """The one file inside a zip, beside folders and what macOS adds."""
    members = [
        info
        for info in archive.infolist()
        if not info.is_dir() and not re.search(r"(^|/)(\.|__MACOSX/)", info.filename)
    ]
    if len(members) != 1:
        names = ", ".join(info.filename for info in members[:5])
        raise UserError(f"{path} has {len(members)} files ({names}): unpack the one to read")
    if members[0].flag_bits & 1:
        raise UserError(f"{path} is encrypted: unpack it first")
    return members[0]


def read_zip_lines(spark: SparkSession, files: Sequence[str], line_end: bytes) -> DataFrame:
    """Lines of zips of one file each, as `read_lines` has them; one task a file, since a zip can't be split."""
    import pandas as pd

    def unpack(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for batch in batches:
            for file in batch["file"]:
                for number, lines in unpacked_lines(file, line_end):
                    ids = range(number, number + len(lines))
                    yield pd.DataFrame({"line": lines, "file": f"file:{file}", "block": 0, "id": ids})

    paths = spark.createDataFrame([(file,) for file in files], "file string").repartition(len(files))
    lines = paths.mapInPandas(unpack, "line binary, file string, block bigint, id bigint")
    return lines.withColumn("line", F.col("line").cast("string"))


def unpacked_lines(file: str, line_end: bytes, chunk_bytes: int = 1 << 22) -> Iterator[tuple[int, list[bytes]]]:
    """Whole lines of a packed file, some at a time, with the number of the first (from 0)."""
    number, rest = 0, b""
    with open_unpacked(file) as stream:
        while data := stream.read(chunk_bytes):
            *lines, rest = (rest + data).split(line_end)
            yield number, lines
            number += len(lines)
    if rest:
        yield number, [rest]
