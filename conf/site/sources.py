"""Where rows of a site come from: files, or queries of the warehouse and of databases."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field

from conf.site.declaration import Name, Names, declaration

DAY_BY_NAME = "name"
"""As a `day`: the date in each file's name."""


Changes = Literal["freeze", "evolve", "discard_value", "discard_row"]


@declaration
class Files:
    """Files of one kind: CSV and the like, JSON lines or Parquet, plain or packed (gz, bz2, zst, zip).

    The layout is detected; each option overrides a part of that.
    """

    pattern: Name
    """Path, or pattern with `*`, from the folder of the declaration; `{date}` is the day that is run."""
    header: Names | None = None
    """Names of the columns in order, of files without a header."""
    separator: str | None = None
    """Between cells, such as `;` or `tab`."""
    quote: str | None = None
    """Around cells; `none` for none."""
    escape: str | None = None
    """A backslash where it stands before quotes within a cell."""
    encoding: str | None = None
    """utf-8, latin-1, gb18030, big5 …"""
    decimal: Literal[".", ","] | None = None
    """Sign of decimals."""
    skip_lines: Annotated[int, Field(ge=0)] = 0
    """Lines before the header or the first row."""
    time_format: str | None = None
    """s, ms, us, ns, iso or a pattern such as `d.M.yyyy H:mm`."""
    timezone: str | None = None
    """Of times that name none; `site.timezone` without it."""
    day: str | None = None
    """Of rows without times: a date, or `name` for the one in each file's name."""
    is_time_order: bool = False
    """With `day`: later rows are later."""
    changes: Changes = "freeze"
    """What happens when columns come or go: the load stops and says which (`freeze`); or it goes on, as long as the
    declared ones are there (`evolve`), even without own columns, but outcomes, which have no value then
    (`discard_value`), or without the rows of files with other columns, which are quarantined (`discard_row`)."""


@declaration
class Query:
    """Rows of a query: of Hive tables and views, of files, or of a database over JDBC."""

    sql: Name
    """A SELECT; `{date}` is the day that is run, so that a day's rows need not be all there are."""
    files: Mapping[Name, Files] = field(default_factory=dict)
    """Files that the query reads beside tables, by the names that it has for them; their columns are text."""
    database: str | None = None
    """A key of `relational.databases`, or `business`; Spark's catalog without it."""
    time_format: str | None = None
    """s, ms, us, ns, iso or a pattern, of times that are text or numbers."""
    timezone: str | None = None
    """Of times that name none; `site.timezone` without it."""
    day: str | None = None
    """Of rows without times: a date."""
    changes: Changes = "freeze"
    """What happens when columns come or go, as for `Files`."""

    def faults(self) -> Iterator[str]:
        """What can't be, though each option is right."""
        if self.files and self.database is not None:
            yield 'Query: files are read by Spark, and "database" runs the query elsewhere: leave one of them out'
        for name in self.files:
            if not re.fullmatch(r"[A-Za-z_]\w*", name):
                yield f"Query: a query can't name {name!r}: letters, digits and _, as orders"

    @property
    def pattern(self) -> str:
        """What the source is called."""
        return self.sql


Source = Files | Query


def decimal_of(source: Source) -> str:
    """Sign of the decimals of a source's numbers; a query's texts have a dot."""
    if isinstance(source, Files) and source.decimal:
        return source.decimal
    return "."
