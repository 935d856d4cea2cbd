"""Rows of a file without Spark, by the rules of `rows`: for a look at data before any of it is loaded.

Of a large file the rows are a sample from all over it; a packed one is unpacked to its end.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from etl.sources.compressed import open_unpacked, unpacked_lines
from etl.sources.dialect import Dialect, split_line, unquote
from etl.sources.rows import BOM, joined_rows
from etl.sources.texts import WHITESPACE

MAX_ROWS = 100_000
_MIN_CHUNK_BYTES, _MAX_CHUNK_BYTES = 1 << 18, 1 << 22
_MAX_UTF16_BYTES = 1 << 27
_PARQUET_BATCH = 10_000
_Line = tuple[int, str]


@dataclass(frozen=True)
class RefusedRow:
    """A row that can't be read."""

    line_number: int
    reason: str
    """As ods_quarantine has it: bad_quotes, missing_cells, extra_cells, invalid_utf8, not_json …"""
    line: str


@dataclass(frozen=True)
class Sample:
    """Rows of one file."""

    frame: pd.DataFrame
    """A column of texts for each of the file's, None for an empty cell; the index has the numbers of the lines."""
    refused: tuple[RefusedRow, ...]
    num_rows: int
    """Rows of the whole file, about; exact where the sample is all of it."""
    is_whole: bool


def sample_rows(path: Path, dialect: Dialect, max_rows: int = MAX_ROWS) -> Sample:
    """Read a file's rows: all of up to `2 * max_rows`, else about `max_rows` or more from all over it.

    Args:
        path: the file, packed or not.
        dialect: its layout, with names.
        max_rows: see above.

    Raises:
        UserError: the file is damaged or cut off.
    """
    if dialect.kind == "parquet":
        return _parquet_sample(path, max_rows)
    blocks, num_lines, is_whole = _blocks(path, dialect, max_rows)
    records = [record for block in blocks for record in _records(block, dialect)]
    read = _read_json if dialect.kind == "json" else _read_cells
    frame, refused = read(records, dialect)
    num_read = len(frame) + len(refused)
    num_sampled = sum(map(len, blocks))
    num_rows = num_read if is_whole else round(num_lines * num_read / max(num_sampled, 1))
    return Sample(frame, tuple(refused), num_rows, is_whole)


def _blocks(path: Path, dialect: Dialect, max_rows: int) -> tuple[list[list[_Line]], int, bool]:
    """Runs of lines with their numbers from 1; the number of all lines; whether the runs are all of them."""
    if dialect.encoding.startswith("utf-16"):
        return _utf16_block(path, dialect, max_rows)
    chunk_bytes = min(max(path.stat().st_size // 64, _MIN_CHUNK_BYTES), _MAX_CHUNK_BYTES)
    stride, num_lines, num_chosen, is_multiline, is_whole = 1, 0, 0, False, True
    chosen: list[tuple[int, int, list[bytes]]] = []
    for position, (number, lines) in enumerate(unpacked_lines(str(path), dialect.line_end[-1].encode(), chunk_bytes)):
        num_lines = number + len(lines)
        is_multiline = is_multiline or (position == 0 and _has_open_line(lines, dialect))
        # Of cells over several lines no run may begin in the middle: then it is the beginning of the file that is read.
        if position % stride or (is_multiline and num_chosen > 2 * max_rows):
            is_whole = False
            continue
        chosen.append((position, number, lines))
        num_chosen += _num_filled(lines)
        if num_chosen > 2 * max_rows and not is_multiline and len(chosen) > 1:
            stride, is_whole = stride * 2, False
            chosen = [chunk for chunk in chosen if chunk[0] % stride == 0]
            num_chosen = sum(_num_filled(lines) for *_, lines in chosen)
    runs = [[chunk for _, chunk in run] for _, run in groupby(enumerate(chosen), lambda pair: pair[1][0] - pair[0])]
    blocks = [[line for chunk in run for line in _decoded(*chunk[1:], dialect)] for run in runs]
    return blocks, num_lines, is_whole


def _num_filled(lines: Sequence[bytes]) -> int:
    return sum(map(bool, map(bytes.strip, lines)))


def _decoded(first: int, lines: Sequence[bytes], dialect: Dialect) -> Iterator[_Line]:
    # Surrogates stand for bytes that are no UTF-8: such a line is refused later.
    errors = "surrogateescape" if dialect.encoding == "utf-8" else "replace"
    for number, line in enumerate(lines, start=first + 1):
        yield number, line.decode(dialect.encoding, errors)


def _utf16_block(path: Path, dialect: Dialect, max_rows: int) -> tuple[list[list[_Line]], int, bool]:
    """The beginning of a file whose line ends can't be searched for in bytes."""
    with open_unpacked(path) as stream:
        data = stream.read(_MAX_UTF16_BYTES)
        is_cut = bool(stream.read(1))
    lines = data.decode(dialect.encoding, "replace").split(dialect.line_end[-1])
    if is_cut or not lines[-1]:
        lines.pop()
    chosen = list(enumerate(lines[: 2 * max_rows], start=1))
    return [chosen], len(lines), not is_cut and len(chosen) == len(lines)


def _has_open_line(lines: Sequence[bytes], dialect: Dialect) -> bool:
    if dialect.kind != "delimited" or dialect.quote is None:
        return False
    return any(split_line(line, dialect) is None for _, line in _decoded(0, lines, dialect))


def _records(block: Sequence[_Line], dialect: Dialect) -> Iterator[_Line]:
    """Rows with the number of their first line; without header, skipped and empty lines."""
    lines: Iterator[_Line] = ((number, line.removeprefix(BOM) if number == 1 else line) for number, line in block)
    if dialect.kind == "delimited" and dialect.quote is not None and any(dialect.quote in line for _, line in block):
        joined = joined_rows(((line, "", 0, number) for number, line in lines), dialect)
        lines = ((number, line) for line, _, _, number in joined)
    # The separators that spreadsheets write below the last row are no row either.
    blank = WHITESPACE + (dialect.separator if dialect.kind == "delimited" else "")
    for number, line in lines:
        text = line.removesuffix("\r") if dialect.line_end == "\r\n" else line
        if number > dialect.skip_lines and text != dialect.header and text.strip(blank):
            yield number, text


def _read_cells(records: Sequence[_Line], dialect: Dialect) -> tuple[pd.DataFrame, list[RefusedRow]]:
    rows, numbers, refused = [], [], []
    num_cells, marks = len(dialect.names), [mark for mark in (dialect.quote, dialect.escape) if mark]
    for number, line in records:
        cells = split_line(line, dialect)
        if reason := _text_fault(line, dialect) or _cells_fault(cells, num_cells):
            refused.append(RefusedRow(number, reason, line))
        elif cells is not None:
            numbers.append(number)
            rows.append([unquote(cell, dialect) for cell in cells] if any(mark in line for mark in marks) else cells)
    columns = list(zip(*rows, strict=True)) or [()] * num_cells
    data = {name: [text or None for text in column] for name, column in zip(dialect.names, columns, strict=True)}
    return pd.DataFrame(data, index=pd.Index(numbers, dtype="int64"), dtype=object), refused


def _text_fault(line: str, dialect: Dialect) -> str | None:
    if dialect.encoding != "utf-8":
        return "invalid_text" if "\ufffd" in line else None
    try:
        line.encode()
    except UnicodeEncodeError:
        return "invalid_utf8"
    return None


def _cells_fault(cells: Sequence[str] | None, num_cells: int) -> str | None:
    if cells is None:
        return "bad_quotes"
    if len(cells) == num_cells:
        return None
    return "missing_cells" if len(cells) < num_cells else "extra_cells"


class _DuplicateKeyError(ValueError):
    pass


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise _DuplicateKeyError
    return values


def _read_json(records: Sequence[_Line], dialect: Dialect) -> tuple[pd.DataFrame, list[RefusedRow]]:
    rows, numbers, refused = [], [], []
    for number, line in records:
        reason = _text_fault(line, dialect)
        value: object = None
        try:
            value = json.loads(line, object_pairs_hook=_object) if reason is None else None
        except ValueError as error:
            reason = "duplicate_key" if isinstance(error, _DuplicateKeyError) else "not_json"
        if reason or not isinstance(value, dict):
            refused.append(RefusedRow(number, reason or "not_json", line))
        else:
            numbers.append(number)
            rows.append(_flat(value))
    # What is within an object has a name of its own, as `user.id`.
    names = list(dict.fromkeys(name for row in rows for name in row))
    data = {name: [row.get(name) for row in rows] for name in names}
    return pd.DataFrame(data, index=pd.Index(numbers, dtype="int64"), dtype=object), refused


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, str | None]:
    texts: dict[str, str | None] = {}
    for name, part in value.items():
        if isinstance(part, dict) and part:
            texts |= _flat(part, f"{prefix}{name}.")
        else:
            texts[prefix + name] = _json_text(part)
    return texts


def _json_text(value: object) -> str | None:
    if value is None or value == "":
        return None
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _parquet_sample(path: Path, max_rows: int) -> Sample:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    num_rows = file.metadata.num_rows
    stride = max(1, num_rows // max_rows) if num_rows > 2 * max_rows else 1
    batches, numbers, first = [], list[int](), 1
    for position, batch in enumerate(file.iter_batches(_PARQUET_BATCH)):
        if position % stride == 0:
            batches.append(batch)
            numbers += range(first, first + batch.num_rows)
        first += batch.num_rows
    table = pa.Table.from_batches(batches, file.schema_arrow)
    data = {name: _parquet_texts(table.column(name)) for name in table.column_names}
    frame = pd.DataFrame(data, index=pd.Index(numbers, dtype="int64"), dtype=object)
    return Sample(frame, (), num_rows, len(frame) == num_rows)


def _parquet_texts(column: Any) -> list[str | None]:
    """A typed column as a text file would have it, as `rows` makes it of Spark's types."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        column = column.cast("int64")  # as Spark reads them
    elif pa.types.is_timestamp(kind):
        # An instant has its zone; without one it is the site's.
        zone = "Z" if kind.tz else ""
        return [
            None if value is None else value.strftime(f"%Y-%m-%dT%H:%M:%S.%f{zone}") for value in column.to_pylist()
        ]
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_string(kind) or pa.types.is_date(kind):
        return [text or None for text in column.cast("string").to_pylist()]
    values = column.to_pylist()
    if pa.types.is_map(kind):
        values = [None if value is None else dict(value) for value in values]
    return [_parquet_text(value) for value in values]


def _parquet_text(value: object) -> str | None:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))  # pandas makes 123456789.0 of an id beside missing ones
    if isinstance(value, (list, dict)):
        return json.dumps(value, default=str, ensure_ascii=False)
    return None if value is None or value == "" else str(value)
