"""What reads a line of a web log: patterns with groups for its cells, and keys of JSON documents."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

# What a line may hold. `date` is 2026-02-05 or 2026-Feb-05, `epoch` seconds since 1970, `escaping` how its texts were
# written (see BACKSLASH and W3C below), `visitor` and `cookies` the texts that weblog.visitor_key names.
CELLS = (
    *("addr", "user", "date", "time", "zone", "epoch", "request_line", "method", "url", "query"),
    *("code", "size", "referer", "agent", "forwarded", "host", "escaping", "visitor", "cookies"),
)
BACKSLASH, W3C = "backslash", "w3c"

# Possessive quantifiers, so that a hostile line can't make the match backtrack. Java and Python read all these alike.
TEXT = r'(?:[^"\\]++|\\.)*+'  # between quotes; may contain \" and the like
QUOTED = f'"({TEXT})"'
USER = r"(\S++(?: ++[^\s\[]++)*+|)"  # users of basic authentication may have blanks
STATUS, SIZE = r"(\d{3})", r"(\d++|-)"
CLF_TIME = r"(\d\d)/(\w{3})/(\d{4}):(\d\d:\d\d:\d\d)"
ISO_DATE, ISO_TIME = r"(\d{4}-\d\d-\d\d)", r"(\d\d:\d\d:\d\d)(?:[.,]\d++)?+"
ISO = rf"{ISO_DATE}[T ]{ISO_TIME}(Z|[+-]\d\d:?\d\d|)"
CLF_CELLS, ISO_CELLS = ("dd", "mon", "yyyy", "time", "zone"), ("date", "time", "zone")
REQUIRED = ("addr", "code")
MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec"


@dataclass(frozen=True)
class Piece:
    """A part of a line: a pattern with one group for each of `cells`."""

    regex: str
    cells: tuple[str, ...] = ()
    label: str = ""
    """What it is called in messages."""
    any_time: str | None = None
    """Of a time: the pattern, without groups, of what may stand in its place."""


@dataclass(frozen=True)
class LineFormat:
    """A format whose lines match a pattern.

    A cell that two groups have is the text of both: of alternatives one is empty. `constants` are cells that all lines
    have in common.
    """

    name: str
    pieces: tuple[Piece, ...]
    constants: Mapping[str, str] = field(default_factory=lambda: {"escaping": BACKSLASH}, hash=False)

    @cached_property
    def pattern(self) -> str:
        """The pattern of a whole line, for Java."""
        line = "".join(piece.regex for piece in self.pieces)
        return rf"^{line}\s*\z"

    @cached_property
    def pattern_of_any_time(self) -> str:
        """As `pattern`, with anything in the place of the time: tells a bad time from another format."""
        line = "".join(piece.any_time or piece.regex for piece in self.pieces)
        return rf"^{line}\s*\z"

    @cached_property
    def groups(self) -> dict[str, list[int]]:
        """Cell -> numbers of its groups."""
        numbers: dict[str, list[int]] = {}
        for number, cell in enumerate((cell for piece in self.pieces for cell in piece.cells), 1):
            numbers.setdefault(cell, []).append(number)
        return numbers

    @cached_property
    def cells(self) -> frozenset[str]:
        """The cells that lines of the format can have."""
        return frozenset(cell for cell in CELLS if any(self.recipe(cell)))

    def recipe(self, cell: str) -> list[int | str]:
        """What a cell is put together from: numbers of groups, and literals."""
        if cell == "date" and "mon" in self.groups:
            return [*self.groups["yyyy"], "-", *self.groups["mon"], "-", *self.groups["dd"]]
        return [*self.groups.get(cell, ()), self.constants.get(cell, "")]

    @property
    def writes_dates_as(self) -> str:
        """How a line has its date: clf, iso or epoch."""
        cells = self.groups
        return "clf" if "mon" in cells else "iso" if "date" in cells else "epoch"

    @property
    def is_w3c(self) -> bool:
        """Whether its files have lines that begin with # and are no requests."""
        return self.constants.get("escaping") == W3C

    def read(self, line: str) -> dict[str, str] | None:
        """The cells of a line; None when it does not match."""
        match = re.match(self.pattern.removesuffix(r"\z") + r"\Z", line, re.ASCII)
        if match is None:
            return None
        recipes = {cell: self.recipe(cell) for cell in CELLS}
        return {
            cell: "".join(part if isinstance(part, str) else match[part] or "" for part in recipe)
            for cell, recipe in recipes.items()
        }

    def difference(self, line: str) -> tuple[int, str]:
        """Where a line differs from the format: the position, and what should be there."""
        for count in range(len(self.pieces), 0, -1):
            prefix = "".join(piece.regex for piece in self.pieces[:count])
            if match := re.match(prefix, line, re.ASCII):
                rest = self.pieces[count:]
                return match.end(), rest[0].label if rest else "the end of the line"
        return 0, self.pieces[0].label


@dataclass(frozen=True)
class JsonFormat:
    """A format whose lines are JSON objects: for each cell the paths that it may stand at, the first of them first.

    A path has the keys from the outside in, with dots between them; a number is an element of a list. The cell `stamp`
    is a time in any of the ways of writing it.
    """

    name: str
    paths: Mapping[str, tuple[str, ...]] = field(hash=False)
    writes_dates_as: str = "epoch"  # or in any other way: not to be searched for as text
    is_w3c: bool = False
    variables: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Of an nginx `log_format`: the keys of the variables that are in no cell."""

    @property
    def cells(self) -> frozenset[str]:
        """The cells that lines of the format can have."""
        return frozenset(CELLS) & {*self.paths, "date", "time", "zone", "epoch"}

    def read(self, line: str) -> dict[str, str] | None:
        """The cells of a line; None when it is no object, or lacks what a request must have."""
        try:
            whole = json.loads(line)
        except (ValueError, RecursionError):
            return None
        cells = {cell: _first_text(whole, paths) for cell, paths in self.paths.items()}
        read = {cell: text for cell, text in cells.items() if text is not None}
        return None if _missing_fields(read) else read

    def difference(self, line: str) -> tuple[int, str]:
        """As of LineFormat."""
        try:
            whole = json.loads(line)
        except RecursionError:
            return 0, "an object of JSON"
        except ValueError as error:
            return getattr(error, "pos", 0), "JSON"
        read = {cell for cell, paths in self.paths.items() if _first_text(whole, paths) is not None}
        return len(read), " and ".join(_missing_fields(read))


Format = LineFormat | JsonFormat
Formats = tuple[Format, ...]
"""The formats that the lines of a file may have, in the order in which they are tried."""

# The fields of a JSON mapping, as the user writes them.
FIELDS = {
    "remote_addr": "addr",
    "remote_user": "user",
    "time": "stamp",
    "request": "request_line",
    "method": "method",
    "url": "url",
    "query": "query",
    "status": "code",
    "bytes": "size",
    "referer": "referer",
    "user_agent": "agent",
    "forwarded_for": "forwarded",
    "host": "host",
}


def _missing_fields(cells: Mapping[str, str] | set[str]) -> list[str]:
    missing = [cell for cell in (*REQUIRED, "stamp") if cell not in cells]
    if "url" not in cells and "request_line" not in cells:
        missing.append("request_line")
    return [name for cell in missing for name, other in FIELDS.items() if other == cell]


def _first_text(whole: Any, paths: Sequence[str]) -> str | None:
    for path in paths:
        value = whole
        for key in path.split("."):
            if isinstance(value, list) and key.isdigit():
                value = value[int(key)] if int(key) < len(value) else None
            else:
                value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            return value if isinstance(value, str) else json.dumps(value)
    return None


def json_format(
    name: str, paths: Mapping[str, tuple[str, ...]], variables: Mapping[str, str] | None = None
) -> JsonFormat:
    """A JSON format from cell -> paths, and the keys of other variables.

    Raises:
        ValueError: it lacks the address, the time, the request or the status.
    """
    if missing := _missing_fields(set(paths)):
        raise ValueError(f"the format has no {', '.join(missing)}")
    return JsonFormat(name, paths, variables=variables or {})


def mapped_format(name: str, mapping: Mapping[str, Any]) -> JsonFormat:
    """A JSON format from a mapping of fields to paths, as `{"remote_addr": "client.ip", "time": "ts", …}`.

    Raises:
        ValueError: as `json_format`, or a field has another name.
    """
    if unknown := [name for name in mapping if name not in FIELDS]:
        raise ValueError(f"unknown field {unknown[0]!r}; fields are {', '.join(FIELDS)}")
    if not all(isinstance(path, str) and path for path in mapping.values()):
        raise ValueError("each field needs a path, as request.headers.User-Agent.0")
    return json_format(name, {FIELDS[name]: (path,) for name, path in mapping.items()})
