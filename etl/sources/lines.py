"""Raw text lines from files, each with what its place is computed from: file, block and id."""

import logging
import os
import re
from collections.abc import Collection, Sequence
from datetime import date
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from conf import Paths, UserError
from conf.site import current_site
from etl.sources.compressed import CORRUPT, ZIP, open_unpacked, read_zip_lines

log = logging.getLogger(__name__)

NUMBER = r"^-?\d+(\.\d+)?([eE][+-]?\d+)?$"  # Java's own parser, and so a cast, reads 1d, 0x1p3 and NaN as well
MAX_QUARANTINED_CHARS = 4096  # enough to see what is wrong; a binary file has "lines" of megabytes
_FIRST_LINE_BYTES = 4096
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


def has_other_sources(paths: Paths, kind: str, days: Sequence[date]) -> bool:
    """Whether the site declares its sources, and none of the days has files of `kind` in the landing zone."""
    if current_site() is None or any(landed_files(paths.landing(kind, day)) for day in days):
        return False
    log.info("the site has no %s of %s in the landing zone: nothing to do", kind, days[-1])
    return True


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
    with open_unpacked(file) as stream:
        try:
            return stream.readline(_FIRST_LINE_BYTES)
        except CORRUPT:  # not gzip in spite of its name: the error comes when its lines are read
            return file.encode()


def _longer_of_same(one: str, other: str) -> str | None:
    """Of two files, the one that begins with the whole content of the other; None when they differ."""
    with open_unpacked(one) as first, open_unpacked(other) as second:
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


def read_lines(
    spark: SparkSession, files: Sequence[str], *, line_end: str = "\n", encoding: str = "utf-8"
) -> DataFrame:
    """One row per line of files, packed or not: `line`, `file`, and `block` and `id` for `with_line_numbers`.

    Args:
        spark: the session.
        files: paths, not patterns.
        line_end: what ends a line; nothing else does, so that a stray `\\r` does not split one.
        encoding: in which `line_end` is looked for, as Java names it; the bytes of `line` stay as they are.
    """
    zips = [file for file in files if file.endswith(ZIP)]
    others = [file for file in files if not file.endswith(ZIP)]
    frames = []
    if others:
        # Spark reads paths as glob patterns.
        escaped = [re.sub(r"([*?\[\]{}\\])", r"\\\1", file) for file in others]
        lines = spark.read.option("lineSep", line_end).option("encoding", encoding).text(escaped)
        place = [F.col("_metadata.file_path").alias("file"), F.col("_metadata.file_block_start").alias("block")]
        frames.append(lines.select(F.col("value").alias("line"), *place, F.monotonically_increasing_id().alias("id")))
    if zips:
        frames.append(read_zip_lines(spark, zips, line_end.encode(encoding)))
    return frames[0] if len(frames) == 1 else frames[0].unionByName(frames[1])


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
