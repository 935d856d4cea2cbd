"""The layout of a file of rows, and how its lines are split into cells: in Python, and as a pattern for Java."""

import re
from dataclasses import dataclass
from typing import Literal

FileKind = Literal["delimited", "json", "parquet"]
_SEPARATOR_NAMES = {"\t": "tab", " ": "blank", "\x01": "^A"}


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """The layout of one file."""

    kind: FileKind = "delimited"
    encoding: str = "utf-8"
    """As Python names it; a byte order mark is recognised beside it."""
    line_end: str = "\n"
    """`\\n`, `\\r` or `\\r\\n`."""
    separator: str = ","
    quote: str | None = '"'
    """None: quotes are characters like others."""
    escape: str | None = None
    """`\\\\` where a backslash protects a quote; without it a quote is doubled."""
    decimal: str = "."
    skip_lines: int = 0
    """Lines before the header or the first row."""
    header: str | None = None
    """The header's line, as it stands in the file; None where the file has none."""
    names: tuple[str, ...] = ()
    """Names of the columns, each once."""
    types: tuple[str, ...] = ()
    """Types of Parquet's columns: Spark reads files together only if they agree."""
    list_columns: frozenset[str] = frozenset()
    """Columns that the header declares as lists separated by blanks (RecBole's `token_seq`)."""

    def describe(self) -> str:
        """The layout in words, for the line that a command prints of each file."""
        if self.kind != "delimited":
            return {"json": "JSON lines", "parquet": "Parquet"}[self.kind]
        parts = [self.encoding, f"separator {_SEPARATOR_NAMES.get(self.separator, self.separator)}"]
        parts.append(f"quotes {self.quote}" if self.quote else "no quotes")
        if self.escape:
            parts.append(f"escapes {self.escape}")
        if self.decimal != ".":
            parts.append(f"decimal {self.decimal}")
        if self.line_end == "\r":
            parts.append("lines end with CR")
        parts.append("no header" if self.header is None else f"header on line {self.skip_lines + 1}")
        return ", ".join(parts)


@dataclass(frozen=True, kw_only=True)
class DialectOptions:
    """What a user says of a file's layout; None for what is to be detected."""

    encoding: str | None = None
    separator: str | None = None
    quote: str | None = None
    """`none` for no quotes."""
    escape: str | None = None
    decimal: str | None = None
    skip_lines: int = 0
    names: tuple[str, ...] = ()
    """Names of the columns, in order, of a file without a header."""


def bare_name(name: str) -> str:
    """A column's name by which spellings are compared: without case, blanks, hyphens, underscores and dots."""
    return re.sub(r"[-_ .]", "", name).casefold()


def split_line(line: str, dialect: Dialect) -> list[str] | None:
    """The cells of a line as they stand in it, with their quotes; None when its quotes do not close."""
    text = line.removesuffix("\r") if dialect.line_end == "\r\n" else line
    if dialect.quote is None or dialect.quote not in text:
        return text.split(dialect.separator) if dialect.escape is None else _match_cells(text, dialect)
    return _match_cells(text, dialect)


def unquote(cell: str, dialect: Dialect) -> str:
    """A cell's text without the quotes around it, and with those inside it once."""
    text, quote = cell.strip(" \t"), dialect.quote
    if quote is not None and text.startswith(quote):
        cell = text[1:-1].replace(quote * 2, quote)
    return cell if dialect.escape is None else re.sub(r"\\(.)", r"\1", cell, flags=re.DOTALL)


def cell_pattern(dialect: Dialect) -> str:
    """A regular expression of one cell, for Python and for Java alike.

    All quantifiers are possessive: neither engine ever goes back, so that a cell of a million quotes takes no stack.
    """
    separator = re.escape(dialect.separator)
    # Beyond one character: anything that does not begin a separator.
    plain = f"[^{separator}]" if len(dialect.separator) == 1 else f"(?:(?!{separator})[\\s\\S])"
    if dialect.escape is not None:
        plain = f"(?:\\\\[\\s\\S]|(?!\\\\){plain})"
    if dialect.quote is None:
        return f"{plain}*+"
    quote = re.escape(dialect.quote)
    if dialect.escape is None:
        quoted = f"{quote}[^{quote}]*+(?:{quote}{quote}[^{quote}]*+)*+{quote}"
    else:
        quoted = f"{quote}[^{quote}\\\\]*+(?:(?:\\\\[\\s\\S]|{quote}{quote})[^{quote}\\\\]*+)*+{quote}"
    # Blanks around the quotes are no part of the cell: `1, "a, b"`. A separator of blanks has none around it.
    blanks = "[ \\t]*+" if not dialect.separator.isspace() else ""
    return f"{blanks}{quoted}{blanks}(?={separator}|\\Z)|(?!{blanks}{quote}){plain}*+"


def _match_cells(text: str, dialect: Dialect) -> list[str] | None:
    # With a separator before the first cell as well, no match is empty.
    text = dialect.separator + text
    cells, end = [], 0
    for match in re.finditer(f"{re.escape(dialect.separator)}({cell_pattern(dialect)})", text):
        if match.start() != end:
            return None
        cells.append(match.group(1))
        end = match.end()
    return cells if end == len(text) else None
