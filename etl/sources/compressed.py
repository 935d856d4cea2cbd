"""Files as people pack them: gz, bz2 and zst, which Spark reads as well, and zip, which it doesn't."""

import bz2
import gzip
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from conf import UserError

ZIP = ".zip"
PACKED = (".gz", ".bz2", ".zst", ZIP)
# What reading a damaged or cut file raises.
CORRUPT = (OSError, EOFError, zlib.error, zipfile.BadZipFile)


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
        # Errors of what a file holds have no number.
        cause = error.strerror if isinstance(error, OSError) and error.errno else "it is corrupt or cut off"
        raise UserError(f"can't read file {path}: {cause}; nothing was changed") from None


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    if path.suffix == ".gz":
        with gzip.open(path) as stream:
            yield stream  # type: ignore[misc]
    elif path.suffix == ".bz2":
        with bz2.open(path) as stream:
            yield stream
    elif path.suffix == ".zst":
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
    members = [info for info in archive.infolist() if not info.is_dir() and not _is_hidden(info.filename)]
    if len(members) != 1:
        names = ", ".join(info.filename for info in members[:5])
        raise UserError(f"{path} has {len(members)} files ({names}): unpack the one to read")
    if members[0].flag_bits & 1:
        raise UserError(f"{path} is encrypted: unpack it first")
    return members[0]


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in Path(name).parts)


def read_zip_lines(spark: SparkSession, files: Sequence[str], line_end: bytes) -> DataFrame:
    """Lines of zips of one file each, as `read_lines` has them; one task a file, since a zip can't be split."""

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
