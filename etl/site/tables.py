"""Files and folders -> tables: those of one layout in a folder are one, with a pattern that names them."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path

import pandas as pd

from conf import UserError
from etl.ingest.columns import USUAL_NAMES
from etl.ingest.files import DATE_IN_NAME
from etl.site.fields import Field, SampledTable
from etl.sources.compressed import unpacked_lines
from etl.sources.detection import detect_dialect
from etl.sources.dialect import Dialect, DialectOptions, split_line, unquote
from etl.sources.lines import landed_files
from etl.sources.pandas_values import to_ids
from etl.sources.sample import MAX_ROWS, Sample, sample_rows
from etl.sources.times import TimeFormat

_NAMES = sorted({name for names in USUAL_NAMES.values() for ours, usual in names.items() for name in (ours, *usual)})
_NO_TABLE = (".md", ".pdf", ".html", ".ipynb")
MAX_CELLS = 3_000_000
"""Of a sample: of hundreds of columns, fewer rows say as much."""
_NUM_LINES = 500
_MIN_ROWS = 10
_MOSTLY = 0.5


@dataclass(frozen=True)
class LeftOut:
    """A file that is no table."""

    path: Path
    reason: str


@dataclass(frozen=True)
class _Layout:
    path: Path
    dialect: Dialect
    has_header: bool


def read_tables(
    paths: Sequence[str], folder: Path, max_rows: int = MAX_ROWS
) -> tuple[list[SampledTable], list[LeftOut]]:
    """Look at the files of a user.

    Args:
        paths: files, folders and patterns with `*`.
        folder: of the declaration, from which the tables' patterns start.
        max_rows: of a table, about.

    Returns:
        The tables in the order of their patterns, and the files that hold none.

    Raises:
        UserError: a path names no file.
    """
    layouts: list[_Layout] = []
    left_out: list[LeftOut] = []
    files = [file for file in expand(paths) if file.suffix != ".py"]
    for path in files:
        if path.suffix.casefold() in _NO_TABLE or path.stem.casefold() in ("readme", "license", "licence"):
            left_out.append(LeftOut(path, "by its name it has no rows"))
            continue
        try:
            layouts.append(_layout(path))
        except UserError as error:
            left_out.append(LeftOut(path, str(error).removeprefix(str(path)).strip(": ")))
    tables: list[SampledTable] = []
    for group in _groups(layouts):
        for pattern, part in _patterns([layout.path for layout in group], folder, files):
            members = [layout for layout in group if layout.path in part]
            table, reason = _read(pattern, members, max_rows)
            if reason:
                left_out.append(LeftOut(part[0], reason))
            else:
                tables.append(table)
    return sorted(tables, key=lambda table: table.pattern), left_out


def expand(paths: Sequence[str]) -> list[Path]:
    """The files of folders and patterns, each once, sorted.

    Raises:
        UserError: a path names no file.
    """
    files: dict[Path, None] = {}
    for name in paths:
        path = Path(name)
        if path.is_dir():
            inside = [Path(file) for file in landed_files(path)]
        else:
            inside = [path] if path.is_file() else [Path(file) for file in sorted(glob(name)) if Path(file).is_file()]
        if not inside:
            raise UserError(f"{name}: the folder has no files" if path.is_dir() else f"no such file: {name}")
        files |= dict.fromkeys(file.absolute() for file in inside)
    return sorted(files)


def _layout(path: Path) -> _Layout:
    dialect = detect_dialect(path, DialectOptions(), _NAMES)
    if dialect.names:
        return _Layout(path, dialect, True)
    rows = _first_rows(path, dialect)
    width = Counter(map(len, rows)).most_common(1)[0][0] if rows else 0
    if width < 2:
        raise UserError("it has one column")
    if is_header(rows[0], rows[1:]):
        return _Layout(path, detect_dialect(path, DialectOptions(), rows[0]), True)
    names = tuple(f"column_{number}" for number in range(1, width + 1))
    return _Layout(path, detect_dialect(path, DialectOptions(names=names, separator=dialect.separator)), False)


def _first_rows(path: Path, dialect: Dialect) -> list[list[str]]:
    """The cells of the first rows of a file whose columns have no names yet."""
    _, lines = next(unpacked_lines(str(path), dialect.line_end[-1].encode()), (0, []))
    texts = [line.decode(dialect.encoding, "replace").rstrip("\r") for line in lines[:_NUM_LINES] if line.strip()]
    cells = [split_line(text.removeprefix("\ufeff"), dialect) for text in texts]
    return [[unquote(cell, dialect).strip() for cell in row] for row in cells if row is not None]


def is_header(first: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether a line has names, though none of them is usual: words that no row below has, over columns that repeat.

    Or a word over a column of times. Names of films, each once, are under no header by that.
    """
    if len(set(first)) < len(first) or not all(re.search(r"[^\W\d]", name) and len(name) <= 40 for name in first):
        return False
    columns = [[row[i] for row in rows if len(row) == len(first) and row[i]] for i in range(len(first))]
    if len(rows) < _MIN_ROWS or any(name in column for name, column in zip(first, columns, strict=True)):
        return False
    num_repeating = sum(len(set(column)) <= len(column) / 2 for column in columns if len(column) >= _MIN_ROWS)
    by_name = zip(first, columns, strict=True)
    return num_repeating >= 2 or any(_are_times(column) and not _are_times([name]) for name, column in by_name)


def _are_times(texts: Sequence[str]) -> bool:
    field = Field.of("", texts)
    return not field.is_number and isinstance(field.time_format, TimeFormat)


def _groups(layouts: Sequence[_Layout]) -> list[list[_Layout]]:
    """Files of one folder that have the same columns and are laid out alike."""
    groups: dict[tuple[object, ...], list[_Layout]] = {}
    for layout in layouts:
        dialect = layout.dialect
        # Without names, files are of one kind if their own names differ in numbers only.
        columns = dialect.names if layout.has_header else (len(dialect.names), re.sub(r"\d+", "0", layout.path.name))
        # Some of them may be plain ASCII: the encoding is no difference between UTF-8 and another.
        how = (dialect.kind, dialect.separator, dialect.quote, dialect.types)
        groups.setdefault((layout.path.parent, columns, how), []).append(layout)
    return list(groups.values())


def _patterns(files: Sequence[Path], folder: Path, others: Sequence[Path]) -> Iterator[tuple[str, list[Path]]]:
    """A pattern for all of the files, where it names no others; else each of them alone."""
    if len(files) > 1 and (name := _common_name([file.name for file in files])) is not None:
        parent = files[0].parent
        matched = {Path(file) for file in glob(str(parent / name.replace("{date}", "*")))}
        if matched & set(others) == set(files):
            yield os.path.relpath(parent / name, folder), list(files)
            return
    for file in files:
        yield os.path.relpath(file, folder), [file]


def _common_name(names: Sequence[str]) -> str | None:
    """`orders-{date}.csv` for names that differ in an ISO date, `part-*.csv` for others; None for nothing in common."""
    dated = {re.sub(r"(?<!\d)\d{4}-\d{2}-\d{2}(?!\d)", "{date}", name) for name in names}
    if len(dated) == 1 and "{date}" in (name := dated.pop()):
        return name
    prefix = _common_start(names)
    suffix = _common_start([name[len(prefix) :][::-1] for name in names])[::-1]
    return f"{prefix}*{suffix}" if prefix or re.search(r"\.\w", suffix) else None


def _common_start(names: Sequence[str]) -> str:
    first, last = min(names), max(names)
    return first[: next((i for i, char in enumerate(first) if char != last[i : i + 1]), len(first))]


def _read(pattern: str, layouts: Sequence[_Layout], max_rows: int) -> tuple[SampledTable, str]:
    """The table of some files, or why it can't be read."""
    samples: list[Sample] = []
    max_rows = max(min(max_rows, MAX_CELLS // len(layouts[0].dialect.names)), 1000)
    sampled_bytes, num_sampled = 0, 0
    # Of hundreds of days, some from all over them: the first, the last, the middle …
    for position in spread(len(layouts)):
        if num_sampled >= 2 * max_rows:
            break
        samples.append(sample_rows(layouts[position].path, layouts[position].dialect, max_rows))
        sampled_bytes += layouts[position].path.stat().st_size
        num_sampled += len(samples[-1].frame)
    dialect = layouts[0].dialect
    frame = pd.concat([sample.frame for sample in samples], ignore_index=True)
    refused = sum(len(sample.refused) for sample in samples)
    moments = {name for name, kind in zip(dialect.names, dialect.types, strict=False) if kind.startswith("timestamp")}
    fields = {
        str(name): Field(str(name), to_ids(frame[name]), dialect.decimal, name in dialect.list_columns, name in moments)
        for name in frame
    }
    all_bytes = sum(one.path.stat().st_size for one in layouts)
    num_rows = round(sum(sample.num_rows for sample in samples) * all_bytes / max(sampled_bytes, 1))
    files = tuple(one.path for one in layouts)
    table = SampledTable(pattern, files, dialect, fields, num_rows, len(frame), refused, layouts[0].has_header)
    is_ragged = refused > _MOSTLY * (len(frame) + refused)
    return (
        table,
        f"{refused:,} of {len(frame) + refused:,} rows have other cells than the first ones" if is_ragged else "",
    )


def spread(count: int) -> list[int]:
    """The numbers below `count`, the ends first, then those between them, ever closer."""
    order: dict[int, None] = {}
    step = max(count - 1, 1)
    while len(order) < count:
        order |= dict.fromkeys(range(0, count, step))
        step = max(step // 2, 1)
    return list(order)


def has_date_in_name(table: SampledTable) -> bool:
    """Whether all of a table's files have a date in their names."""
    return all(re.search(DATE_IN_NAME, file.name) for file in table.files)
