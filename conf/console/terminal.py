"""Text of unknown origin on a terminal: user agents, titles and file names may hold escape sequences."""

import csv
import json
import logging
import math
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from conf.errors import UserError
from conf.masking import masked_text

# C0 and C1 controls move the cursor, recolour, rename the window, even type; marks of direction reorder what is read
# ("Trojan Source", Boucher and Anderson 2021). Tabs and line ends are for the caller to keep.
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
LINE_ENDS_AND_TABS = str.maketrans({"\n": r"\n", "\t": r"\t"})
# What a spreadsheet takes for a formula (OWASP, "CSV injection"); a carriage return is escaped before.
FORMULA_STARTS = ("=", "+", "-", "@", "\t")


def printable(text: str) -> str:
    r"""Replace what a terminal would obey by what Python writes for it, such as `\x1b`; line ends and tabs stay."""
    return UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def one_printable_line(text: str) -> str:
    r"""As `printable`, with line ends and tabs replaced by `\n` and `\t`, too: for a cell of a table."""
    return printable(text).translate(LINE_ENDS_AND_TABS)


class PrintableFormatter(logging.Formatter):
    """Formats log records for a terminal: messages may quote lines of data, and URLs with passwords."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record; line ends stay, for stacks."""
        return printable(masked_text(super().format(record)))


def write_json(columns: Sequence[str], rows: Iterable[Sequence[Any]], file: TextIO) -> None:
    """Write rows as one JSON array of objects. Their values are exact; NaN and infinities, which JSON lacks, are texts.

    Raises:
        UserError: two columns have one name.
    """
    if repeated := sorted({name for name in columns if columns.count(name) > 1}):
        raise UserError(
            f"several columns are called {', '.join(repeated)}: rename them with `as`, an object has one each"
        )
    objects = [dict(zip(columns, map(_json_value, row), strict=True)) for row in rows]
    text = json.dumps(objects, default=str, ensure_ascii=False, allow_nan=False)
    # JSON itself escapes C0 only.
    print(UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text), file=file)


def _json_value(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else f"{'-' if value < 0 else ''}Infinity"
    if isinstance(value, dict):
        return {str(key): _json_value(item) for key, item in value.items()}
    return [_json_value(item) for item in value] if isinstance(value, list | tuple) else value


def write_csv(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], file: TextIO, *, formulas_as_text: bool = False
) -> None:
    """Write rows as CSV with a header, quoted as RFC 4180 says, and printable.

    Args:
        columns: the header.
        rows: values in its order; None becomes an empty cell.
        file: to write to.
        formulas_as_text: write texts that a spreadsheet would compute (`=1+1`, `@sum`) with an apostrophe before them.
    """
    writer = csv.writer(file)
    writer.writerow([printable(name) for name in columns])
    for row in rows:
        writer.writerow([_csv_cell(value, formulas_as_text=formulas_as_text) for value in row])


def _csv_cell(value: Any, *, formulas_as_text: bool) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    text = printable(str(value))
    return f"'{text}" if formulas_as_text and text.startswith(FORMULA_STARTS) else text


def write_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], file: TextIO) -> None:
    """Write rows as a table with borders, as wide as the terminal, or 200 columns elsewhere."""
    # Here, because it loads slowly and programs that read the output ask for JSON or CSV.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # As Text: of a plain string rich would take `[brackets]` for its own markup.
    table = Table()
    for name in columns:
        table.add_column(Text(one_printable_line(name)))
    for row in rows:
        table.add_row(*[Text("" if value is None else one_printable_line(str(value))) for value in row])
    # Into a pipe rich would wrap at 80 columns, which no program that reads the table expects.
    Console(file=file, width=None if file.isatty() else 200).print(table)


def print_rows(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], output: str, *, formulas_as_text: bool = False
) -> None:
    """Print rows to standard output, and nothing else.

    Args:
        columns: their names, which a query may give twice.
        rows: values in the order of the columns.
        output: table, csv or json (an array of objects).
        formulas_as_text: of `write_csv`.

    Raises:
        UserError: json, and two columns have one name.
    """
    if output == "json":
        write_json(columns, rows, sys.stdout)
    elif output == "csv":
        write_csv(columns, rows, sys.stdout, formulas_as_text=formulas_as_text)
    else:
        write_table(columns, rows, sys.stdout)
