"""Lines of files together with the formats that they may have; in W3C logs by the header above each."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from etl.sources.lines import read_lines
from etl.weblog.formats.catalog import Declaration
from etl.weblog.formats.cells import position_in_file
from etl.weblog.formats.detection import detect_formats, formats_below, formats_of_lines
from etl.weblog.formats.format import Formats
from etl.weblog.formats.w3c import FIELDS_LINE

log = logging.getLogger(__name__)

_NUM_UNREAD_LINES = 500  # taken for the second detection
_NOT_QUOTED = "/:@!$&'()*+,;="


@dataclass
class LogReader:
    """Reads lines of logs together with the formats that they may have."""

    spark: SparkSession
    log_format: Declaration
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
        for file, formats in detect_formats(unknown, self.log_format, is_strict=is_strict).items():
            self._detected[file] = formats
            log.info("%s: %s", file, ", ".join(dict.fromkeys(format.name for format in formats)))
        lines = read_lines(self.spark, files)
        return lines.withColumn("formats", self._format_column(lines, files))

    def add_formats(self, lines: DataFrame) -> bool:
        """Detect formats again, in lines that no format of their files reads: those samples have no line of theirs.

        One pass over the lines.

        Args:
            lines: `file` and `line`, valid and not too long.

        Returns:
            Whether there are more formats now; then all that was read has to be read again.
        """
        if self.log_format is not None:
            return False
        # Headers first, for the lines below them; of the others any, or rubbish at the beginning would be all of them.
        ranked = lines.select("file", "line").orderBy(F.startswith("line", F.lit(FIELDS_LINE)).desc(), F.rand(seed=0))
        by_file: dict[str, list[str]] = {}
        for name, line in ranked.limit(_NUM_UNREAD_LINES).collect():
            by_file.setdefault(name, []).append(line)
        has_more = False
        for file in [file for file in self._detected if _spark_name(file) in by_file]:
            formats = formats_of_lines(by_file[_spark_name(file)])
            if added := tuple(format for format in formats if format not in self._detected[file]):
                log.info("%s: also %s", file, ", ".join(dict.fromkeys(format.name for format in added)))
                self._detected[file] += added
                has_more = True
        if has_more:
            self.format_sets.clear()  # counted anew: sets that no file has any more would be tried
        return has_more

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
        column = F.lit(self._index_of((*formats_below(headers[0][1]), *others)))
        for position, header in headers[1:]:
            is_below = position_in_file() > position
            column = F.when(is_below, self._index_of((*formats_below(header), *others))).otherwise(column)
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
