"""Raw text lines from files, each with what it takes to name its place: file and line number."""

import gzip
import logging
import os
import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import IO

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from conf import UserError

log = logging.getLogger(__name__)

MAX_QUARANTINED_CHARS = 4096


def landed_files(folder: Path) -> list[str]:
    """Files of a landing folder; hidden and empty ones (still being written, or nothing in them) are left out."""
    if not folder.is_dir():
        return []
    return sorted(
        str(path)
        for path in folder.rglob("*")
        if path.is_file()
        and not any(part[0] in "._" for part in path.relative_to(folder).parts)
        and path.stat().st_size
    )


def expand_sources(sources: Sequence[str]) -> list[str]:
    """Files named by a user, folders opened, each content once: see `without_copies`.

    Raises UserError for one that is not there.
    """
    found: list[str] = []
    for source in sources:
        path = Path(source)
        if path.is_dir():
            found += landed_files(path)
        elif path.is_file():
            found.append(str(path.resolve()))
        else:
            raise UserError(f"no such file: {source}")
    if not found:
        raise UserError(f"no files in {', '.join(sources)}")
    return drop_copies(found)


def drop_copies(files: Sequence[str]) -> list[str]:
    """Leave out a file whose content another one begins with: itself again, a copy, a .gz of it, an earlier state."""
    by_head: dict[bytes, list[str]] = {}
    for file in dict.fromkeys(os.path.realpath(file) for file in files):
        alike = by_head.setdefault(_first_line(file), [])
        for place, other in enumerate(alike):
            if longer := _longer_of_same(file, other):
                log.info("%s and %s hold the same lines: %s is read", file, other, longer)
                alike[place] = longer
                break
        else:
            alike.append(file)
    return sorted(file for alike in by_head.values() for file in alike)


def _first_line(file: str) -> bytes:
    with _opened(file) as stream:
        try:
            return stream.readline(MAX_QUARANTINED_CHARS)
        except (OSError, EOFError):  # a .gz that is none: whoever reads its lines says so
            return file.encode()


def _longer_of_same(one: str, other: str) -> str | None:
    """Of two files, the one that begins with all of the other; None when they differ."""
    block = 1 << 20
    with _opened(one) as first, _opened(other) as second:
        try:
            while True:
                a, b = first.read(block), second.read(block)
                common = min(len(a), len(b))
                if a[:common] != b[:common]:
                    return None
                if common < block:
                    return one if len(a) > len(b) else other
        except (OSError, EOFError):
            return None


def _opened(file: str) -> IO[bytes]:
    return gzip.open(file) if file.endswith(".gz") else Path(file).open("rb")  # type: ignore[return-value]


def read_lines(spark: SparkSession, files: Sequence[str]) -> DataFrame:
    """One row per line: `line`, `file`, and `block` and `id`, from which `with_line_numbers` counts.

    Plain or gz. Only \\n ends a line, so that a stray \\r does not make two of one.
    """
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
    """Add `line_number` (from 1) to `chosen` rows of `lines`: lines of the file's blocks before, then within its own.

    Ids grow by one within a block. Only the counts of blocks are gathered, never the lines.
    """
    blocks = lines.groupBy("file", "block").agg(F.min("id").alias("first_id"), F.count("*").alias("lines"))
    before = Window.partitionBy("file").orderBy("block").rowsBetween(Window.unboundedPreceding, -1)
    offsets = blocks.withColumn("before", F.coalesce(F.sum("lines").over(before), F.lit(0))).drop("lines")
    numbered = chosen.join(F.broadcast(offsets), on=["file", "block"], how="inner")
    return numbered.withColumn("line_number", F.col("before") + F.col("id") - F.col("first_id") + 1).drop(
        "before", "first_id"
    )


def valid_utf8(name: str) -> Column:
    """The text with bytes that are no UTF-8 replaced."""
    return F.make_valid_utf8(F.col(name))


def landing_day() -> Column:
    """The `dt=` of the landing folder that a row's file lies in; empty text for a file elsewhere."""
    return F.regexp_extract("file", r"/dt=(\d{4}-\d{2}-\d{2})/", 1)


def corrupt_file_error(error: Exception) -> UserError | None:
    """A one-line error that names a corrupt file, when that is what `error` is about."""
    text = str(error)
    named = re.search(r"file:/[^\s'\"`]+", text)
    if named and (
        "FAILED_READ_FILE" in text or "gzip" in text.lower() or "ZipException" in text or "EOFException" in text
    ):
        return UserError(f"can't read {named.group().rstrip('.,')}: it is corrupt or cut off; nothing was changed")
    return None


def require_files(files: Sequence[str], folder: Path, days: Sequence[date]) -> None:
    if not files:
        raise UserError(f"nothing has landed for {days[0]}: {folder} is empty or missing")
