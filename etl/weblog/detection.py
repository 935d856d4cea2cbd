"""Which formats the lines of each file have: from its first lines, from the setting, or from W3C headers within it."""

import bz2
import gzip
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO
from urllib.parse import quote

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from conf import UserError
from etl.sources.lines import read_lines
from etl.weblog.formats import COMBINED, FORMATS, declared_formats
from etl.weblog.parse import position_in_file
from etl.weblog.settings import WeblogSettings
from etl.weblog.templates import FIELDS_LINE, MONTHS, Format, Formats, LineFormat, w3c_formats

log = logging.getLogger(__name__)

_SAMPLE_BYTES = 1 << 18  # of the beginning of a file, and of its middle and end
_SAMPLE_LINES = 100  # of each
_NUM_NEAREST = 3
_NOT_UTF8 = re.compile("[\ud800-\udfff]")  # what `surrogateescape` decodes such bytes to
_CAUSE_CHARS = 40
_NOT_QUOTED = "/:@!$&'()*+,;="


@dataclass(frozen=True)
class _Sample:
    """Some lines of a file with their numbers, and the `#Fields:` lines among its first ones."""

    first: list[tuple[int, str]]
    lines: list[str]
    headers: list[str]


def detect_formats(files: Sequence[str], settings: WeblogSettings, *, is_strict: bool = True) -> dict[str, Formats]:
    """The formats of the lines of each file.

    Args:
        files: their paths.
        settings: `log_format` is in force for all files, in place of what their lines look like.
        is_strict: whether a file without a readable line is an error; else it is read as combined.

    Raises:
        UserError: such a file, with the formats that come nearest and where its first line differs from them.
    """
    declared = declared_formats(settings.log_format)
    detected: dict[str, Formats] = {}
    for file in files:
        sample = _read_sample(Path(file))
        formats = _header_formats(sample)
        formats += _matching_formats(sample, tuple(FORMATS.values()) if declared is None else declared)
        if not formats and is_strict and sample.first:
            raise UserError(_explain(file, sample, declared))
        detected[file] = formats or declared or COMBINED
    return detected


def _matching_formats(sample: _Sample, candidates: Formats) -> Formats:
    """Of the candidates those that a line of the sample has, in their order."""
    names = {next((format.name for format in candidates if _reads(format, line)), None) for line in sample.lines}
    if "combined" in names:
        names.discard("common")  # they have one pattern
    return tuple(format for format in candidates if format.name in names)


def _reads(format: Format, line: str) -> bool:
    cells = None if _NOT_UTF8.search(line) else format.read(line)
    if cells is None:
        return False
    if format is FORMATS["combined"] and not cells["agent"]:  # it reads common lines, too: they only have other names
        return False
    return not cells.get("date") or _is_date(cells["date"])


def _is_date(text: str) -> bool:
    year, month, day = text.split("-")
    # The names of months are English whatever the locale.
    number = int(month) if month.isdigit() else MONTHS.find(month) // 3 + 1
    try:
        datetime(int(year), number, int(day))
    except ValueError:
        return False
    return True


def _header_formats(sample: _Sample) -> Formats:
    """The formats that the `#Fields:` lines of a sample declare: those that a line of it has, or all without lines."""
    declared = dict.fromkeys(format for header in sample.headers for format in _formats_below(header))
    matching = [format for format in declared if any(_reads(format, line) for line in sample.lines)]
    return tuple(matching if sample.lines else declared)


def _formats_below(header: str) -> Formats:
    try:
        return w3c_formats(header)
    except ValueError:  # its lines are quarantined
        return ()


# --- what is wrong with a file that has no readable line ---


def _explain(file: str, sample: _Sample, declared: Formats | None) -> str:
    number, line = sample.first[0]
    if _NOT_UTF8.search(line):
        return f"{file}: no line could be read; line {number} is not UTF-8"
    cure = "give --log-format (a name, or your server's log_format, LogFormat or #Fields line)"
    if sample.headers:
        try:
            w3c_formats(sample.headers[0])
        except ValueError as error:
            return f"{file}: no known format: {error}; {cure}"
        declared = (*w3c_formats(sample.headers[0]), *(declared or ()))
    if declared == ():
        return f"{file}: no #Fields line, which W3C logs begin with; {cure}"
    candidates = declared or tuple(format for format in FORMATS.values() if format.name != "common")
    # Of formats that agree as far with the line the simplest is named first.
    ordered = sorted(candidates, key=lambda format: len(format.pieces) if isinstance(format, LineFormat) else 0)
    differences = [(format.name, *format.difference(line)) for format in ordered]
    nearest = [
        f"{name} at column {position + 1} ({_cut(line[position:])}, expected: {expected})"
        for name, position, expected in sorted(differences, key=lambda row: -row[1])[:_NUM_NEAREST]
    ]
    what = "no known format" if declared is None else "no line is in the format given"
    return f"{file}: {what}; {cure}. Line {number} differs from {', from '.join(nearest)}"


def _cut(text: str) -> str:
    if not text.strip():
        return "the line ends"
    return repr(text[:_CAUSE_CHARS] + ("…" if len(text) > _CAUSE_CHARS else ""))


# --- lines with their formats ---


@dataclass
class LogReader:
    """Reads lines of logs together with the formats that they may have."""

    spark: SparkSession
    settings: WeblogSettings
    format_sets: list[Formats] = field(default_factory=list)
    """What the column `formats` of the lines counts: the formats of a line, in the order in which they are tried."""
    _detected: dict[str, Formats] = field(default_factory=dict)
    _changes: dict[tuple[str, ...], dict[str, list[tuple[int, str]]]] = field(default_factory=dict)
    """By the files that were read together, as positions are of one such reading: its `_header_changes`."""

    def read(self, files: Sequence[str], *, is_strict: bool = True) -> DataFrame:
        """The lines of files as `etl.sources.lines.read_lines` gives them, with `formats`.

        Args:
            files: paths of the logs.
            is_strict: as of `detect_formats`.

        Raises:
            UserError: as `detect_formats`.
        """
        unknown = [file for file in files if file not in self._detected]
        for file, formats in detect_formats(unknown, self.settings, is_strict=is_strict).items():
            self._detected[file] = formats
            log.info("%s: %s", file, ", ".join(dict.fromkeys(format.name for format in formats)))
        lines = read_lines(self.spark, files)
        return lines.withColumn("formats", self._format_column(lines, files))

    def _format_column(self, lines: DataFrame, files: Sequence[str]) -> Column:
        by_formats: dict[Formats, list[str]] = {}
        for file in files:
            by_formats.setdefault(self._detected[file], []).append(file)
        is_w3c = any(format.is_w3c for formats in by_formats for format in formats)
        if len(by_formats) == 1 and not is_w3c:
            return F.lit(self._index_of(next(iter(by_formats))))
        if is_w3c and tuple(files) not in self._changes:
            self._changes[tuple(files)] = _header_changes(lines)  # a pass over the lines
        changes = self._changes.get(tuple(files), {})
        default = max(by_formats, key=lambda formats: len(by_formats[formats]))
        column = F.lit(self._index_of(default))
        for formats, same in by_formats.items():
            if formats != default:
                is_same = F.col("file").isin([_spark_name(file) for file in same])
                column = F.when(is_same, self._index_of(formats)).otherwise(column)
        for file in files:
            if headers := changes.get(_spark_name(file)):
                by_position = self._formats_by_position(self._detected[file], headers)
                column = F.when(F.col("file") == _spark_name(file), by_position).otherwise(column)
        return column

    def _formats_by_position(self, formats: Formats, headers: list[tuple[int, str]]) -> Column:
        """Of the lines of a W3C file: each by the header above it, those above the first by that."""
        others = tuple(format for format in formats if not format.is_w3c)
        column = F.lit(self._index_of((*_formats_below(headers[0][1]), *others)))
        for position, header in headers[1:]:
            is_below = position_in_file() > position
            column = F.when(is_below, self._index_of((*_formats_below(header), *others))).otherwise(column)
        return column

    def _index_of(self, formats: Formats) -> int:
        if formats not in self.format_sets:
            self.format_sets.append(formats)
        return self.format_sets.index(formats)


def _spark_name(file: str) -> str:
    """A file's name as Spark has it in the column `file`: Hadoop's form of a URL, with one slash."""
    characters = os.path.abspath(file)
    # Java's URLs have letters of all alphabets.
    is_letter = [ord(character) > 127 and character.isprintable() for character in characters]
    quoted = [c if plain else quote(c, safe=_NOT_QUOTED) for c, plain in zip(characters, is_letter, strict=True)]
    return "file:" + "".join(quoted)


def _header_changes(lines: DataFrame) -> dict[str, list[tuple[int, str]]]:
    """File -> positions of its `#Fields:` lines and the lines: of equal ones in a row the first."""
    is_header = F.startswith("line", F.lit(FIELDS_LINE))
    rows = lines.where(is_header).select("file", position_in_file().alias("position"), "line").collect()
    changes: dict[str, list[tuple[int, str]]] = {}
    for file, position, header in sorted(rows):
        of_file = changes.setdefault(file, [])
        if not of_file or of_file[-1][1].split() != header.split():
            of_file.append((position, header))
    return changes


# --- samples ---


def _read_sample(path: Path) -> _Sample:
    """The first lines of a file, and of a plain one also some of its middle and end: a format may have changed."""
    with _open(path) as stream:
        try:
            data = stream.read(_SAMPLE_BYTES)
        except (OSError, EOFError):  # corrupt: the error comes when its lines are read
            return _Sample([], [], [])
        size = path.stat().st_size
        is_whole = len(data) < _SAMPLE_BYTES
        first = _whole_lines(data, is_whole)
        later: list[str] = []
        if not is_whole and path.suffix not in _COMPRESSED:
            for start in (size // 2, max(size - _SAMPLE_BYTES, 0)):
                stream.seek(start)
                later += _whole_lines(stream.read(_SAMPLE_BYTES), is_whole=False)[1 : _SAMPLE_LINES + 1]
    headers = [line for line in first if line.startswith(FIELDS_LINE)]
    is_entry = re.compile(r"(?!#)\s*\S" if headers else r"\s*\S").match
    numbered = [(number, line) for number, line in enumerate(first, 1) if is_entry(line)]
    lines = [line for _, line in numbered[:_SAMPLE_LINES]]
    lines += [line for line in later if is_entry(line)]
    return _Sample(numbered[:_SAMPLE_LINES], lines, headers)


_COMPRESSED = (".gz", ".bz2")


def _open(path: Path) -> IO[bytes]:
    if path.suffix == ".gz":
        return gzip.open(path)  # type: ignore[return-value]
    return bz2.open(path) if path.suffix == ".bz2" else path.open("rb")


def _whole_lines(data: bytes, is_whole: bool) -> list[str]:
    lines = data.split(b"\n")
    # What is cut off at the end of a sample is no line; nor is what follows the last line's end.
    whole_lines = lines if is_whole or len(lines) == 1 else lines[:-1]
    return [line.decode(errors="surrogateescape") for line in whole_lines]
