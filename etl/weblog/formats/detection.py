"""Which formats the lines of each file have: from its first lines, from the setting, or from W3C headers within it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from conf import UserError
from etl.sources.compressed import CORRUPT, PACKED, foreign_content, open_unpacked
from etl.weblog.formats.catalog import COMBINED, FORMATS, Declaration, declared_formats
from etl.weblog.formats.format import MONTHS, Format, Formats, LineFormat
from etl.weblog.formats.w3c import FIELDS_LINE, w3c_formats

_SAMPLE_BYTES = 1 << 18  # of the beginning of a file, and of its middle and end
_SAMPLE_LINES = 100  # of each
_NUM_NEAREST = 3
_NOT_UTF8 = re.compile("[\ud800-\udfff]")  # what `surrogateescape` decodes such bytes to
_CAUSE_CHARS = 40


@dataclass(frozen=True)
class _Sample:
    """Some lines of a file with their numbers, and the `#Fields:` lines among its first ones."""

    first: list[tuple[int, str]]
    lines: list[str]
    headers: list[str]


def detect_formats(files: Sequence[str], log_format: Declaration, *, is_strict: bool = True) -> dict[str, Formats]:
    """The formats of the lines of each file.

    Args:
        files: their paths.
        log_format: in force for all files, in place of what their lines look like; None to detect it.
        is_strict: whether a file without a readable line is an error; else it is read as combined.

    Raises:
        UserError: such a file, with the formats that come nearest and where its first line differs from them; a file
            that can't be read; or none of them has a line.
    """
    declared = declared_formats(log_format)
    detected: dict[str, Formats] = {}
    has_lines = False
    for file in files:
        sample = _read_sample(Path(file))
        has_lines |= bool(sample.lines or sample.headers)
        formats = _formats_of(sample, declared)
        if not formats and is_strict and sample.first:
            raise UserError(_explain(file, sample, declared))
        detected[file] = formats or declared or COMBINED
    if files and is_strict and not has_lines:
        raise UserError(f"{', '.join(files[:3])}: no lines but blank ones; nothing was changed")
    return detected


def formats_of_lines(lines: Sequence[str]) -> Formats:
    """The formats that some lines of a file have, and those that the `#Fields:` lines among them declare."""
    headers = [line for line in lines if line.startswith(FIELDS_LINE)]
    return _formats_of(_Sample([], [line for line in lines if line not in headers], headers), declared=None)


def _formats_of(sample: _Sample, declared: Formats | None) -> Formats:
    """The formats of headers, and of the declared ones, or all, those that a line of the sample has, in their order."""
    candidates = tuple(FORMATS.values()) if declared is None else declared
    names = {next((format.name for format in candidates if _reads(format, line)), None) for line in sample.lines}
    if "combined" in names:
        names.discard("common")  # they have one pattern
    return _header_formats(sample) + tuple(format for format in candidates if format.name in names)


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
    declared = dict.fromkeys(format for header in sample.headers for format in formats_below(header))
    matching = [format for format in declared if any(_reads(format, line) for line in sample.lines)]
    return tuple(matching if sample.lines else declared)


def formats_below(header: str) -> Formats:
    try:
        return w3c_formats(header)
    except ValueError:  # its lines are quarantined
        return ()


# --- what is wrong with a file that has no readable line ---


def _explain(file: str, sample: _Sample, declared: Formats | None) -> str:
    number, line = sample.first[0]
    if (foreign := foreign_content(Path(file), line.encode(errors="surrogateescape"))) is not None:
        return f"{file}: it {foreign}"
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
    for format in candidates:
        cells = format.read(line)
        if cells is not None and cells.get("date") and not _is_date(cells["date"]):
            return f"{file}: line {number} is {format.name}, but {cells['date']} is no date (months are Jan to Dec)"
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


# --- samples ---


def _read_sample(path: Path) -> _Sample:
    """The first lines of a file, and of a plain one also some of its middle and end: a format may have changed."""
    with open_unpacked(path) as stream:
        try:
            data = stream.read(_SAMPLE_BYTES)
        except CORRUPT:  # said here, for Spark reads what is no bz2 at all as a file without lines
            raise UserError(f"can't read file {path}: it is corrupt or cut off; nothing was changed") from None
        size = path.stat().st_size
        is_whole = len(data) < _SAMPLE_BYTES
        first = _whole_lines(data, is_whole)
        later: list[str] = []
        if not is_whole and path.suffix not in PACKED:
            for start in (size // 2, max(size - _SAMPLE_BYTES, 0)):
                stream.seek(start)
                later += _whole_lines(stream.read(_SAMPLE_BYTES), is_whole=False)[1 : _SAMPLE_LINES + 1]
    headers = [line for line in first if line.startswith(FIELDS_LINE)]
    is_entry = re.compile(r"(?!#)\s*\S" if headers else r"\s*\S").match
    numbered = [(number, line) for number, line in enumerate(first, 1) if is_entry(line)]
    lines = [line for _, line in numbered[:_SAMPLE_LINES]]
    lines += [line for line in later if is_entry(line)]
    return _Sample(numbered[:_SAMPLE_LINES], lines, headers)


def _whole_lines(data: bytes, is_whole: bool) -> list[str]:
    lines = data.split(b"\n")
    # What is cut off at the end of a sample is no line; nor is what follows the last line's end.
    whole_lines = lines if is_whole or len(lines) == 1 else lines[:-1]
    return [line.decode(errors="surrogateescape") for line in whole_lines]
