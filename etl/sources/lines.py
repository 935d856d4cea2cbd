"""Raw text lines from files, each with what its place is computed from: file, block and id."""

import bz2
import gzip
import logging
import os
import re
import string
import zlib
from collections.abc import Collection, Sequence
from datetime import date
from pathlib import Path
from typing import IO

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from conf import Paths, UserError

log = logging.getLogger(__name__)

WHITESPACE = string.whitespace + "\u00a0\u2028\u2029\u3000\ufeff"  # trimmed from ids: Spark's `trim` knows blanks only
NUMBER = r"^-?\d+(\.\d+)?([eE][+-]?\d+)?$"  # Java's own parser, and so a cast, reads 1d, 0x1p3 and NaN as well
MAX_QUARANTINED_CHARS = 4096  # enough to see what is wrong; a binary file has "lines" of megabytes
_FIRST_LINE_BYTES = 4096
CORRUPT = (OSError, EOFError, zlib.error)  # what reading a damaged or cut gz or bz2 raises
_BLOCK_BYTES = 1 << 20  # compared at once: two of them in memory, however large the files


def landed_files(folder: Path) -> list[str]:
    """Files of a landing folder, sorted; hidden and empty ones (still being written, or without lines) are left out.

    A folder that does not exist has none.
    """
    if not folder.is_dir():
        return []
    return sorted(
        str(path)
        for path in folder.rglob("*")
        if path.is_file()
        and not any(part[0] in "._" for part in path.relative_to(folder).parts)
        and path.stat().st_size
    )


def landed_days(paths: Paths, kind: str, days: Sequence[date]) -> list[date]:
    """Those of `days` that have files in the landing zone; the others are named in the log.

    To load one without files would replace what it has by nothing.
    """
    landed = [day for day in days if landed_files(paths.landing(kind, day))]
    if landed:
        warn_of_days_left_out(days, landed, "no files in the landing zone")
    return landed


def warn_of_days_left_out(days: Sequence[date], loaded: Collection[date], reason: str) -> None:
    """Name those of `days` that are not `loaded` in one line of the log."""
    names = [day.isoformat() for day in days if day not in loaded]
    if names:
        more = f" and {len(names) - 10} more" if len(names) > 10 else ""
        log.warning("%s%s: %s; what was loaded before stays", ", ".join(names[:10]), more, reason)


def require_files(files: Sequence[str], folder: Path, days: Sequence[date]) -> None:
    """Check that there are `files` to read for `days`.

    Raises:
        UserError: there are none; the message names the first day and its landing folder.
    """
    if not files:
        raise UserError(f"nothing has landed for {days[0]}: {folder} is empty or missing")


def expand_sources(sources: Sequence[str]) -> list[str]:
    """Files named by a user, with folders replaced by their files, and each content once (see `drop_copies`).

    Raises:
        UserError: a file does not exist, or there are no files at all.
    """
    files: list[str] = []
    for source in sources:
        path = Path(source)
        if path.is_dir():
            files += landed_files(path)
        elif path.is_file():
            files.append(str(path.resolve()))
        else:
            raise UserError(f"no such file: {source}")
    if not files:
        raise UserError(f"no files in {', '.join(sources)}")
    return drop_copies(files)


def drop_copies(files: Sequence[str]) -> list[str]:
    """Leave out a file whose content another one begins with: itself again, a copy, also .gz or .bz2, an earlier state.

    Log rotation leaves such files behind, and their lines would count twice. Only files with the same first line are
    compared, block by block.
    """
    # By real path first, so that a link or a file given twice is not even opened twice.
    by_first_line: dict[bytes, list[str]] = {}
    for file in dict.fromkeys(os.path.realpath(file) for file in files):
        distinct = by_first_line.setdefault(_first_line(file), [])
        for i, other in enumerate(distinct):
            if longer := _longer_of_same(file, other):
                log.info("%s and %s hold the same lines: %s is read", file, other, longer)
                distinct[i] = longer
                break
        else:
            distinct.append(file)
    return sorted(file for distinct in by_first_line.values() for file in distinct)


def _first_line(file: str) -> bytes:
    with open_decompressed(file) as stream:
        try:
            return stream.readline(_FIRST_LINE_BYTES)
        except CORRUPT:  # not gzip in spite of its name: the error comes when its lines are read
            return file.encode()


def _longer_of_same(one: str, other: str) -> str | None:
    """Of two files, the one that begins with the whole content of the other; None when they differ."""
    with open_decompressed(one) as first, open_decompressed(other) as second:
        try:
            while True:
                a, b = first.read(_BLOCK_BYTES), second.read(_BLOCK_BYTES)
                common = min(len(a), len(b))
                if a[:common] != b[:common]:
                    return None
                if common < _BLOCK_BYTES:  # one of them ends here
                    return one if len(a) > len(b) else other
        except CORRUPT:
            return None


def open_decompressed(file: str) -> IO[bytes]:
    """The bytes of a file, decompressed by its name where that ends in .gz or .bz2, as Spark reads it.

    Raises:
        UserError: it can't be opened.
    """
    try:
        if file.endswith(".gz"):
            return gzip.open(file)  # type: ignore[return-value]
        return bz2.open(file) if file.endswith(".bz2") else Path(file).open("rb")
    except OSError as error:
        raise UserError(f"can't read {file}: {error.strerror}; nothing was changed") from None


def read_lines(spark: SparkSession, files: Sequence[str]) -> DataFrame:
    """One row per line of plain, gz or bz2 files: `line`, `file`, and `block` and `id` for `with_line_numbers`.

    Only \\n ends a line, so that a stray \\r does not split one.
    """
    # Spark reads paths as glob patterns.
    escaped = [re.sub(r"([*?\[\]{}\\])", r"\\\1", file) for file in files]
    return (
        spark.read.option("lineSep", "\n")
        .text(escaped)
        .select(
            F.col("value").alias("line"),
            F.col("_metadata.file_path").alias("file"),
            F.col("_metadata.file_block_start").alias("block"),
            F.monotonically_increasing_id().alias("id"),
        )
    )


def with_line_numbers(lines: DataFrame, chosen: DataFrame) -> DataFrame:
    """Add `line_number` (from 1) to `chosen`, some rows of `lines`.

    It is the number of lines in the file's earlier blocks, plus the position within its own: ids grow by one there.
    Only the blocks' counts are shuffled, never the lines.
    """
    # A plain file over spark.sql.files.maxPartitionBytes is read in several blocks, by tasks that do not know how many
    # lines come before theirs; monotonically_increasing_id counts within each task. Gzip cannot be split: one block.
    blocks = lines.groupBy("file", "block").agg(F.min("id").alias("first_id"), F.count("*").alias("lines"))
    earlier = Window.partitionBy("file").orderBy("block").rowsBetween(Window.unboundedPreceding, -1)
    offsets = blocks.withColumn("before", F.coalesce(F.sum("lines").over(earlier), F.lit(0))).drop("lines")
    # One row per block of each file: small enough to broadcast, whatever the size of the files.
    numbered = chosen.join(F.broadcast(offsets), on=["file", "block"], how="inner")
    return numbered.withColumn("line_number", F.col("before") + F.col("id") - F.col("first_id") + 1).drop(
        "before", "first_id"
    )


def landing_day() -> Column:
    """The `dt=` of the landing folder that a row's `file` lies in, as 2026-01-07; empty text for a file elsewhere."""
    return F.regexp_extract("file", r"/dt=(\d{4}-\d{2}-\d{2})/", 1)


def corrupt_file_error(error: Exception) -> UserError | None:
    """A one-line error that names the corrupt file when Spark's `error` is about one; None otherwise."""
    # Spark wraps Java's exceptions differently by where a task fails; only their texts have the file in all cases.
    message = str(error)
    url = re.search(r"file:/[^\s'\"`]+", message)
    signs = ("FAILED_READ_FILE", "ZipException", "EOFException")
    is_unreadable = any(sign in message for sign in signs) or "gzip" in message.lower()
    if url and is_unreadable:
        return UserError(f"can't read {url.group().rstrip('.,')}: it is corrupt or cut off; nothing was changed")
    return None
