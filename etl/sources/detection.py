"""How a text file of rows is laid out: encoding, line ends, separator, quotes, header; detected, or given.

Detection reads the beginning of a file and, of a file that isn't packed, some lines from all over it. What it decides
is printed, and each part of it can be overridden.
"""

import codecs
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from conf import UserError
from etl.sources.compressed import PACKED, foreign_content, open_unpacked
from etl.sources.dialect import Dialect, DialectOptions, bare_name, split_line, unquote
from etl.sources.encodings import detect_encoding

SEPARATORS = (",", "\t", ";", "|", "::", "\x01", " ")
_HEAD_BYTES, _MAX_HEAD_BYTES = 1 << 20, 1 << 26
_MIN_LINES = 4
_NUM_PARTS, _PART_BYTES = 16, 1 << 16  # of the rest of a large file: for its encoding
_SAMPLE_ROWS = 500
_MAX_LINES, _MAX_TRIES = 1000, 20  # of one row; to find its end
_MAX_LINES_BEFORE = 20  # of a header: titles, comments
_NUMERIC = re.compile(r"\s*[-+]?(\d+([.,]\d+)?|[.,]\d+)([eE][-+]?\d+)?\s*")
_MISSING = re.compile(r"\s*(n/?a|nan|null|none|\\N|-|\?)?\s*", re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"-?\d+,\d+")
# A thousand as 1,234 in English is a little more than one in German: such a number decides nothing.
_THOUSANDS = re.compile(r"-?[1-9]\d{0,2},\d{3}")
_GROUPED = re.compile(r"\s*-?\d{1,3}(\.\d{3})+,\d+\s*")
# The line by which Excel is told the separator.
_EXCEL_SEPARATOR = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
# A first line of which all cells are in apostrophes.
_APOSTROPHES = re.compile(r"'[^']*'(?:.{1,2}'[^']*')+\r?")
# RecBole's headers: `user_id:token`, `genre:token_seq`.
_TYPED_NAME = re.compile(r"[^:]+:(token|float|token_seq|float_seq)")


class NoRowsError(UserError):
    """A file is empty, or has a header only."""


def detect_dialect(path: Path, options: DialectOptions, known_names: Sequence[str] = ()) -> Dialect:
    """Look at a file and say how it is laid out.

    Args:
        path: the file; gz, bz2, zst and zip (of one file) are unpacked.
        options: what is known; the rest is detected.
        known_names: names of columns that make a first line a header, though it may look like data.

    Raises:
        NoRowsError: the file is empty.
        UserError: it is damaged or no text, or its rows have other cells than its header.
    """
    sample = _read_sample(path)
    if sample.head.startswith(b"PAR1"):
        names, types = _parquet_columns(path)
        return Dialect(kind="parquet", names=names, types=types)
    if (foreign := foreign_content(path, sample.head)) is not None:
        raise UserError(f"{path} {foreign}")
    encoding = options.encoding or detect_encoding(sample.head + sample.parts)
    if encoding == "utf-16":
        marked = detect_encoding(sample.head[:2])
        encoding = marked if marked.startswith("utf-16") else "utf-16-le"
    text = _decode(path, sample.head, encoding)
    if not text.strip():
        raise NoRowsError(f"{path} is empty")
    line_end = _detect_line_end(text)
    lines = _whole_lines(text, line_end, is_cut=sample.is_cut)
    if (match := _EXCEL_SEPARATOR.fullmatch(lines[0].rstrip("\r"))) and not options.skip_lines:
        options = replace(options, separator=options.separator or match[1], skip_lines=1)
    lines = lines[options.skip_lines :]
    if names := _json_names(path, lines):
        return Dialect(kind="json", encoding=encoding, line_end=line_end, skip_lines=options.skip_lines, names=names)
    dialect = Dialect(encoding=encoding, line_end=line_end, skip_lines=options.skip_lines)
    return _with_header(path, _with_separator(dialect, lines, options), lines, options, known_names)


def header_line(path: Path, options: DialectOptions, known_names: Sequence[str]) -> int | None:
    """The number (from 1) of a line below the first that has two known names at least, as under a title or a comment.

    Args:
        path: the file.
        options: its encoding, if it is known.
        known_names: names of columns.
    """
    head = _read_sample(path).head
    text = _decode(path, head, options.encoding or detect_encoding(head))
    for number, line in enumerate(text.splitlines()[:_MAX_LINES_BEFORE], start=1):
        cells = re.split(r"[,\t;|\x01]|::", line)
        if number > 1 and _num_known([cell.strip(" \"'") for cell in cells], known_names) > 1:
            return number
    return None


def sample_columns(path: Path, dialect: Dialect, names: Sequence[str]) -> dict[str, list[str]]:
    """Texts of the first rows of some columns, empty ones left out.

    Args:
        path: the file.
        dialect: its layout.
        names: the columns, or paths into JSON.
    """
    if dialect.kind == "parquet":
        return _parquet_sample(path, names)
    sample = _read_sample(path)
    text = _decode(path, sample.head, dialect.encoding)
    lines = _whole_lines(text, dialect.line_end, is_cut=sample.is_cut)[dialect.skip_lines :][: _SAMPLE_ROWS + 1]
    samples: dict[str, list[str]] = {name: [] for name in names}
    for row in _sample_rows(lines, dialect):
        for name in names:
            value = row.get(name) if name in row else _value_at(row, name.split("."))
            if value is not None and str(value).strip():
                samples[name].append(_sample_text(value))
    return samples


def _sample_text(value: object) -> str:
    """The value as JSON has it where it is a list or an object, as Spark does."""
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)


def _parquet_sample(path: Path, names: Sequence[str]) -> dict[str, list[str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    samples: dict[str, list[str]] = {name: [] for name in names}
    # INT96, as older Spark, Impala and Hive write times, has nanoseconds as well, but Spark reads it as a time.
    file = pq.ParquetFile(path, coerce_int96_timestamp_unit="us")
    for batch in file.iter_batches(_SAMPLE_ROWS):
        for name in names:
            column = batch.column(name)
            if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
                column = column.cast("int64")  # as Spark reads them: it has no nanoseconds
            samples[name] = [_sample_text(value) for value in column.to_pylist() if value is not None]
        break
    return samples


def _value_at(value: object, path: Sequence[str]) -> object:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _sample_rows(lines: Sequence[str], dialect: Dialect) -> Iterator[dict[str, object]]:
    if dialect.kind == "json":
        for line in lines:
            with suppress(ValueError):
                yield json.loads(line)
        return
    for record in _records(lines, dialect):
        cells = split_line(record, dialect) or []
        if record.removesuffix("\r") != dialect.header and len(cells) == len(dialect.names):
            yield {name: unquote(cell, dialect) for name, cell in zip(dialect.names, cells, strict=True)}


@dataclass(frozen=True)
class _Sample:
    head: bytes
    parts: bytes
    is_cut: bool


def _read_sample(path: Path) -> _Sample:
    """The beginning of a file, and whole lines from all over one that isn't packed."""
    with open_unpacked(path) as stream:
        head = stream.read(_HEAD_BYTES)
        # A cell may have megabytes.
        while head.count(b"\n") + head.count(b"\r") < _MIN_LINES and len(head) < _MAX_HEAD_BYTES:
            if not (more := stream.read(_HEAD_BYTES)):
                break
            head += more
        is_cut = bool(stream.read(1))
    size, parts = path.stat().st_size, []
    if is_cut and path.suffix not in PACKED:
        with path.open("rb") as file:
            for n in range(1, _NUM_PARTS + 1):
                file.seek(n * (size - _PART_BYTES) // _NUM_PARTS)
                part = file.read(_PART_BYTES)
                parts.append(part[part.find(b"\n") + 1 : part.rfind(b"\n") + 1])
    return _Sample(head, b"".join(parts), is_cut)


def _decode(path: Path, head: bytes, encoding: str) -> str:
    if head.startswith(codecs.BOM_UTF8):
        head = head[len(codecs.BOM_UTF8) :]
    # What is no text in the encoding is refused line by line.
    text = codecs.getincrementaldecoder(encoding)("replace").decode(head).removeprefix("\ufeff")
    if "\0" in text:
        # Every other byte of UTF-16 is 0 in most languages.
        is_wide = head.count(0) > len(head) / 5
        cure = ": if it is UTF-16 without a byte order mark, --encoding utf-16-le reads it" if is_wide else ""
        raise UserError(f"{path} is no text (it has bytes 0){cure}")
    return text


def _whole_lines(text: str, line_end: str, *, is_cut: bool) -> list[str]:
    lines = text.split(line_end[-1])
    if is_cut or not lines[-1]:
        lines.pop()
    return lines or [text]


def _detect_line_end(text: str) -> str:
    if "\n" not in text:
        return "\r" if "\r" in text else "\n"
    # A few lines may have been added by another system: the usual end is the file's.
    return "\r\n" if text.count("\r\n") > text.count("\n") / 2 else "\n"


def _parquet_columns(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names and types.

    Raises:
        UserError: the file is damaged, or has what Spark can't read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        parquet = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError):
        raise UserError(f"can't read {path}: it is corrupt or cut off; nothing was changed") from None
    schema = parquet.schema_arrow
    if not parquet.metadata.num_rows:
        raise NoRowsError(f"{path} has no rows")
    if times := [field.name for field in schema if pa.types.is_time(field.type)]:
        raise UserError(f"{path}: {', '.join(times)} is a time of day, which Spark can't read: write it as text")
    by_case: dict[str, str] = {}
    for name in schema.names:
        if (other := by_case.setdefault(name.casefold(), name)) != name or schema.names.count(name) > 1:
            raise UserError(f"{path}: {other} and {name} differ in nothing but case, which Spark ignores: rename one")
    return tuple(schema.names), tuple(str(field.type) for field in schema)


def _json_names(path: Path, lines: Sequence[str]) -> tuple[str, ...]:
    """The keys of the first lines, if these are JSON objects; none otherwise.

    Raises:
        UserError: the file is one JSON value over several lines, which Spark can't split.
    """
    first = next((line for line in lines if line.strip()), "").strip()
    if not first.startswith(("{", "[")):
        return ()
    names: dict[str, None] = {}
    for line in lines[:_SAMPLE_ROWS]:
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            names |= dict.fromkeys(value)
    if not names and re.match(r"[\[{]\s*([\[{\"]|$)", first):
        raise UserError(f"{path} is JSON, but not one object a line (`jq -c '.[]' {path.name}` writes an array so)")
    return tuple(names)


def _with_separator(dialect: Dialect, lines: Sequence[str], options: DialectOptions) -> Dialect:
    """The separator, quote and escape by which most lines have the same number of cells, more than one."""
    text = "\n".join(lines[:_SAMPLE_ROWS])
    separators = [options.separator] if options.separator else _separators_in(lines)
    quotes = [None if options.quote == "none" else options.quote] if options.quote else ['"']
    if options.quote is None and lines and _APOSTROPHES.fullmatch(lines[0]):
        quotes = ["'"]
    escapes = [options.escape] if options.escape else [*["\\"] * ('\\"' in text), None]
    best, best_score = dialect, (-1.0, 0)
    for separator in separators:
        for quote in quotes:
            for escape in escapes:
                candidate = replace(dialect, separator=separator, quote=quote, escape=escape)
                score = _consistency(candidate, lines, len(options.names))
                # A later one must be better, not as good: the first are the likeliest. Blanks are in any text, so that
                # more cells are no sign of them.
                better = score[:1] > best_score[:1] if separator == " " else score > best_score
                if better and (score[1] > 1 or len(separators) == 1):
                    best, best_score = candidate, score
    if best_score[1] <= 1:
        return replace(best, quote=quotes[0])  # one column
    is_literal = best.quote is not None and options.quote is None and _has_literal_quotes(best, lines, best_score[1])
    return replace(best, quote=None) if is_literal else best


def _separators_in(lines: Sequence[str]) -> list[str]:
    """Those that some line has. Any text has blanks: to be a separator, they must be in the first line, too."""
    text, first = "\n".join(lines[:_SAMPLE_ROWS]), next((line for line in lines if line.strip()), "")
    return [one for one in SEPARATORS if one in (first.strip() if one == " " else text)]


def _has_literal_quotes(dialect: Dialect, lines: Sequence[str], num_cells: int) -> bool:
    """Whether lines make sense only when quotes are characters like others, and none only when they aren't.

    Artists are called `"Weird Al" Yankovic` in files that know no quoting; those with commas always know it.
    """
    if dialect.separator in (",", ";"):
        return False
    literal = replace(dialect, quote=None)
    num_literal = num_quoted = 0
    for record in _records(lines, dialect):
        if dialect.quote is not None and dialect.quote in record:
            cells, plain = split_line(record, dialect), split_line(record, literal)
            is_plain = plain is not None and len(plain) == num_cells
            num_literal += cells is None and is_plain
            is_joined = dialect.line_end[-1] in record
            num_quoted += cells is not None and len(cells) == num_cells and (is_joined or not is_plain)
    return num_literal > 0 and not num_quoted


def _consistency(dialect: Dialect, lines: Sequence[str], num_names: int) -> tuple[float, int]:
    """The share of rows that have the most frequent number of cells, and that number; that of the names, if any."""
    records = [record for record in _records(lines[:_SAMPLE_ROWS], dialect) if record != ""]
    counts = Counter(None if (cells := split_line(record, dialect)) is None else len(cells) for record in records)
    sizes = {size: count for size, count in counts.items() if size is not None}
    if not sizes:
        return 0.0, 0
    size = num_names if num_names in sizes else max(sizes, key=lambda size: (sizes[size], size))
    # One cell everywhere is no sign of a separator, however consistent.
    share = sizes[size] / len(records) if size > 1 else 0.0
    # Any that gives as many cells as there are names goes before all others.
    return (share - 1 if num_names and size != num_names else share), size


def _records(lines: Sequence[str], dialect: Dialect) -> list[str]:
    """Lines, those joined that a quoted cell with line ends in it is spread over."""
    records: list[str] = []
    position = 0
    while position < len(lines):
        record, end = lines[position], position + 1
        if split_line(record, dialect) is None and (joined := _join(lines, position, dialect)) is not None:
            record, end = joined
        records.append(record)
        position = end
    return records


def _join(lines: Sequence[str], position: int, dialect: Dialect) -> tuple[str, int] | None:
    """The row of a line whose quotes are open, and the number of the line after it; None if they don't close soon."""
    num_tries = 0
    for end in range(position + 1, min(len(lines), position + _MAX_LINES)):
        # Only a quote can close the cell: a stray one costs few attempts, a text of hundreds of lines none.
        if dialect.quote is not None and dialect.quote in lines[end]:
            record = dialect.line_end[-1].join(lines[position : end + 1])
            if split_line(record, dialect) is not None:
                return record, end + 1
            num_tries += 1
            if num_tries == _MAX_TRIES:
                break
    return None


def _with_header(
    path: Path, dialect: Dialect, lines: Sequence[str], options: DialectOptions, known_names: Sequence[str]
) -> Dialect:
    records = [record for record in _records(lines[:_SAMPLE_ROWS], dialect) if record.strip()]
    if not records:
        raise UserError(f"{path} has no rows after the lines that are skipped ({dialect.skip_lines})")
    rows = [[unquote(cell, dialect) for cell in split_line(record, dialect) or []] for record in records]
    first = [cell.strip() for cell in rows[0]]
    dialect = replace(dialect, decimal=options.decimal or _detect_decimal(dialect, rows))
    if options.names:
        # The columns are named anew, and yet the file may have a header of its own: words, two of them known.
        is_own_header = _num_known(first, known_names) > 1 and not any(_NUMERIC.fullmatch(name) for name in first)
        is_header = sorted(first) == sorted(options.names) or is_own_header
        # What the file calls its columns goes for nothing; but a header is no row.
        names = options.names if sorted(first) != sorted(options.names) else tuple(first)
        list_columns = frozenset[str]()
    else:
        is_header = _is_header(first, rows[1:], known_names)
        names, list_columns = _typed_names(first) if is_header else ((), frozenset())
    header = records[0].removesuffix("\r") if is_header else None
    dialect = replace(dialect, header=header, names=_unique(names), list_columns=list_columns)
    _check_width(path, dialect, rows[is_header:])
    return dialect


def _typed_names(names: Sequence[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Names of a header, and those of lists among them, where RecBole's types stand behind them."""
    if not all(_TYPED_NAME.fullmatch(name) for name in names):
        return tuple(names), frozenset()
    lists = frozenset(name.split(":")[0] for name in names if name.endswith("_seq"))
    return tuple(name.split(":")[0] for name in names), lists


def _check_width(path: Path, dialect: Dialect, rows: Sequence[Sequence[str]]) -> None:
    """Check that rows have as many cells as there are names: pandas would make an index of a cell too much."""
    if not dialect.names:
        return
    if not any(any(cell.strip() for cell in row) for row in rows):
        raise NoRowsError(f"{path} has a header ({', '.join(dialect.names[:5])}) and no rows")
    sizes = Counter(len(row) for row in rows if row)
    size, count = sizes.most_common(1)[0] if sizes else (0, 0)
    # Lines without a separator may be of a text that is longer than the sample.
    is_text = size == 1 and sizes[len(dialect.names)] > 0
    if size and count > sizes[len(dialect.names)] and not is_text:
        if dialect.separator == " " and any("" in row for row in rows):
            raise UserError(f"{path}: blanks align its columns: `tr -s ' ' < {path.name}` leaves one between cells")
        raise UserError(
            f"{path}: there are names of {len(dialect.names)} columns ({', '.join(dialect.names[:5])}), but most rows "
            f"have {size} cells ({dialect.describe()}): give the separator, or name all columns in order with --header"
        )


def _is_header(first: Sequence[str], rows: Sequence[Sequence[str]], known_names: Sequence[str]) -> bool:
    """Whether a line holds names: one that is known, or a word where all rows below have numbers."""
    if _num_known(first, known_names):
        return True
    is_word = [not _NUMERIC.fullmatch(name) and not _MISSING.fullmatch(name) for name in first]
    if not rows:
        return all(is_word)
    columns = [[row[i] for row in rows if i < len(row) and row[i].strip()] for i in range(len(first))]
    return any(
        word and column and all(map(_NUMERIC.fullmatch, column)) for word, column in zip(is_word, columns, strict=True)
    )


def _num_known(first: Sequence[str], known_names: Sequence[str]) -> int:
    bare_names = {bare_name(name) for name in known_names}
    return sum(bare_name(name.split(":")[0]) in bare_names for name in first)


def _detect_decimal(dialect: Dialect, rows: Sequence[Sequence[str]]) -> str:
    """A comma where a column of numbers has them with a comma only, and commas separate no cells."""
    if dialect.separator == ",":
        return "."
    for column in zip(*(row for row in rows[1:] if len(row) == len(rows[0])), strict=True):
        numbers = [cell for cell in column if _NUMERIC.fullmatch(cell) or _GROUPED.fullmatch(cell)]
        is_number = len(numbers) >= 0.9 * len([cell for cell in column if cell.strip()])
        has_comma = any(
            _GROUPED.fullmatch(cell) or (_DECIMAL_COMMA.fullmatch(cell) and not _THOUSANDS.fullmatch(cell))
            for cell in numbers
        )
        if is_number and has_comma:
            has_point = any("." in cell and not _GROUPED.fullmatch(cell) for cell in numbers)
            return "." if has_point else ","
    return "."


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    """The names, `column_3` for an empty one, and `name_2` for one that came before."""
    unique: list[str] = []
    for position, name in enumerate(names, start=1):
        name = name or f"column_{position}"
        number, candidate = 2, name
        while candidate in unique:
            candidate, number = f"{name}_{number}", number + 1
        unique.append(candidate)
    return tuple(unique)
