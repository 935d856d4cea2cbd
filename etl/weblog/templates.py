"""What reads a line of a web log: patterns compiled from nginx, Apache and W3C declarations, and keys of JSON logs."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

# What a line may hold. `date` is 2026-02-05 or 2026-Feb-05, `epoch` seconds since 1970, `escaping` how its texts were
# written (see BACKSLASH and W3C below).
CELLS = (
    *("addr", "user", "date", "time", "zone", "epoch", "request_line", "method", "url", "query"),
    *("code", "size", "referer", "agent", "forwarded", "host", "escaping"),
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
        return rf"^{''.join(piece.regex for piece in self.pieces)}\s*\z"

    @cached_property
    def pattern_of_any_time(self) -> str:
        """As `pattern`, with anything in the place of the time: tells a bad time from another format."""
        return rf"^{''.join(piece.any_time or piece.regex for piece in self.pieces)}\s*\z"

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


# --- nginx ---

# Variable -> cell. Others are read over.
NGINX_VARIABLES = {
    "remote_addr": "addr",
    "realip_remote_addr": "addr",
    "remote_user": "user",
    "request": "request_line",
    "request_method": "method",
    "request_uri": "url",
    "uri": "url",
    "args": "query",
    "query_string": "query",
    "status": "code",
    "body_bytes_sent": "size",
    "bytes_sent": "size",
    "http_referer": "referer",
    "http_user_agent": "agent",
    "http_x_forwarded_for": "forwarded",
    "host": "host",
    "http_host": "host",
    "server_name": "host",
}
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
# Upstreams that were tried one after the other: `0.001, 0.002 : 0.003`.
_LIST = r"[^\s,]++(?:(?:, ?| : )[^\s,]++)*+"


def nginx_format(name: str, template: str) -> LineFormat | JsonFormat:
    """Compile an nginx `log_format`: the text, or the whole directive.

    Raises:
        ValueError: it lacks the address, a time, the request or the status.
    """
    if directive := re.match(r"\s*log_format\s+\S+\s+(?:escape=\w+\s+)?", template):
        parts = re.findall(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"", template[directive.end() :])
        template = "".join(single or double for single, double in parts)
    if template.lstrip().startswith("{"):
        return _nginx_json(name, template)
    tokens = _tokens(template.replace("$uri$is_args$args", "$request_uri"), _VARIABLE)
    return _compile(name, [(is_literal, text.strip("${}") if not is_literal else text) for is_literal, text in tokens])


def _nginx_json(name: str, template: str) -> JsonFormat:
    # Numbers are written without quotes: {"status": $status}.
    quoted = re.sub(r"(:\s*)(\$\{?\w+\}?)", r'\1"\2"', template)
    try:
        keys = json.loads(quoted)
    except ValueError as error:
        raise ValueError(f"this log_format is no JSON: {error}") from None
    paths: dict[str, tuple[str, ...]] = {}
    for key, value in keys.items():
        variable = str(value).strip("${}")
        cell = "stamp" if variable in _TIMES else NGINX_VARIABLES.get(variable)
        if cell is not None:
            paths[cell] = (*paths.get(cell, ()), key)
    return json_format(name, paths)


def _tokens(template: str, variable: re.Pattern[str]) -> list[tuple[bool, str]]:
    """(is it literal, its text) of each part."""
    tokens, position = [], 0
    for match in variable.finditer(template):
        if match.start() > position:
            tokens.append((True, template[position : match.start()]))
        tokens.append((False, match[0]))
        position = match.end()
    return [*tokens, (True, template[position:])] if template[position:] else tokens


_TIMES = ("time_local", "time_iso8601", "msec")


def _compile(name: str, tokens: Sequence[tuple[bool, str]]) -> LineFormat:
    """Compile literals and nginx variables; how far a variable's text goes follows from the literals around it."""
    pieces: list[Piece] = []
    literals = [text if is_literal else "" for is_literal, text in (*tokens, (True, ""))]
    cells: set[str] = set()
    for index, (is_literal, text) in enumerate(tokens):
        if is_literal:
            pieces.append(Piece(re.escape(text), (), repr(text)))
            continue
        piece = _variable_piece(text, literals[index - 1][-1:], literals[index + 1])
        if cells & set(piece.cells):  # of two variables for one cell the first counts
            piece = Piece(re.sub(r"(?<!\\)\((?!\?)", "(?:", piece.regex), (), piece.label, piece.any_time)
        cells |= set(piece.cells)
        pieces.append(piece)
    missing = [f"${variable}" for variable, cell in (("remote_addr", "addr"), ("status", "code")) if cell not in cells]
    missing += [] if cells & {"yyyy", "date", "epoch"} else ["$time_local"]
    missing += [] if cells & {"url", "request_line"} else ["$request"]
    if missing:
        raise ValueError(f"the format has no {', '.join(missing)}")
    return LineFormat(name, tuple(pieces))


def _variable_piece(variable: str, before: str, after: str) -> Piece:
    label = f"${variable}"
    if variable == "time_local":
        in_brackets = after.startswith("]")
        zone, anything = (r"([^\]]*+)", r"[^\]]*+") if in_brackets else (r"( [+-]\d{4}|)", r"\S++(?: [+-]\d{4})?+")
        return Piece(CLF_TIME + zone, CLF_CELLS, label, anything)
    if variable == "time_iso8601":
        return Piece(ISO, ISO_CELLS, label, r"[^\s\]\"]*+")
    if variable == "msec":
        return Piece(r"(\d{9,10}(?:\.\d++)?+)", ("epoch",), label, r"[^\s\]\"]*+")
    cell = NGINX_VARIABLES.get(variable)
    if cell is None:
        return Piece(_delimited(before, after) or f"(?:{_LIST}|)", (), label)
    if cell == "user" and "[" in after:
        regex = USER
    elif cell in ("code", "size"):
        regex = STATUS if cell == "code" else SIZE
    else:
        to_the_end = cell in ("agent", "referer", "request_line") and not after
        plain = {"forwarded": _LIST, "host": r'[^\s/"]*+'}.get(cell, ".*+" if to_the_end else r"\S*+")
        regex = f"({_delimited(before, after) or plain})"
    return Piece(regex, (cell,), label)


def _delimited(before: str, after: str) -> str | None:
    """The pattern of a text between quotes, or up to a mark that is no blank."""
    if after[:1] == before == '"':
        return TEXT
    if after and not after[0].isspace():
        return rf"[^{re.escape(after[0])}]*+"
    return None


# --- Apache ---

_DIRECTIVE = re.compile(r"%[!\d,]*[<>]?(?:\{[^}]*\})?(?:\^[a-zA-Z]{2}|[a-zA-Z%])")
_APACHE_VARIABLES = {
    "h": "remote_addr",
    "a": "remote_addr",
    "u": "remote_user",
    "r": "request",
    "m": "request_method",
    "U": "uri",
    "q": "args",
    "s": "status",
    "b": "body_bytes_sent",
    "B": "body_bytes_sent",
    "O": "bytes_sent",
    "v": "server_name",
    "V": "server_name",
}
_APACHE_HEADERS = {
    "referer": "http_referer",
    "user-agent": "http_user_agent",
    "x-forwarded-for": "http_x_forwarded_for",
    "host": "http_host",
}
_APACHE_TIMES = {"sec": "msec", "%Y-%m-%dT%H:%M:%S%z": "time_iso8601", "%d/%b/%Y:%H:%M:%S %z": "time_local"}


def apache_format(name: str, template: str) -> LineFormat:
    r"""Compile an Apache `LogFormat`: the text, with `"` or `\"`, or the whole directive.

    Raises:
        ValueError: it lacks the address, a time, the request or the status, or has a time written in a way of its own.
    """
    if directive := re.match(r'\s*LogFormat\s+"((?:[^"\\]|\\.)*)"', template):
        template = directive[1]
    template = template.replace(r"\"", '"').replace(r"\t", "\t").replace("%U%q", "%{request_uri}^ur")
    tokens: list[tuple[bool, str]] = []
    for is_literal, text in _tokens(template, _DIRECTIVE):
        tokens += [(True, text)] if is_literal else _apache_tokens(text)
    return _compile(name, tokens)


def _apache_tokens(directive: str) -> list[tuple[bool, str]]:
    letter, braces = directive[-1], re.search(r"\{(.*)\}", directive)
    if letter == "%":
        return [(True, "%")]
    if letter == "t":
        if braces is None:
            return [(True, "["), (False, "time_local"), (True, "]")]
        if braces[1] not in _APACHE_TIMES:
            raise ValueError(f"can't read times written as {directive}; write %t, or {', '.join(_APACHE_TIMES)}")
        return [(False, _APACHE_TIMES[braces[1]])]
    if directive.endswith("^ur"):
        return [(False, "request_uri")]
    if letter == "i" and braces is not None:
        return [(False, _APACHE_HEADERS.get(braces[1].lower(), "header"))]
    return [(False, _APACHE_VARIABLES.get(letter, "other"))]


# --- W3C extended ---

# Cell -> fields that hold it, the best first.
W3C_FIELDS = {
    "addr": ("c-ip",),
    "user": ("cs-username",),
    "date": ("date", "date-local"),
    "time": ("time", "time-local"),
    "method": ("cs-method",),
    "url": ("cs-uri-stem", "cs-uri"),
    "query": ("cs-uri-query",),
    "code": ("sc-status", "c-status"),
    "size": ("sc-bytes",),
    "referer": ("cs(referer)", "cs(referrer)", "c-referrer"),
    "agent": ("cs(user-agent)", "c-user-agent"),
    "forwarded": ("x-forwarded-for", "cs(x-forwarded-for)", "s-xff"),
    "host": ("x-host-header", "cs-host", "cs(host)"),
}
FIELDS_LINE = "#Fields:"
_W3C_REQUIRED = ("addr", "date", "time", "url", "code")


def w3c_formats(header: str) -> tuple[LineFormat, LineFormat]:
    """Formats of the lines below a `#Fields:` line: with tabs, and with blanks, between the fields.

    Raises:
        ValueError: a field that every request needs is not among them.
    """
    names = header.removeprefix(FIELDS_LINE).split()
    lower = [name.lower() for name in names]
    field_of = {cell: next((name for name in options if name in lower), None) for cell, options in W3C_FIELDS.items()}
    missing = [W3C_FIELDS[cell][0] for cell in _W3C_REQUIRED if field_of[cell] is None]
    if missing:
        raise ValueError(f"its #Fields line has no {', '.join(missing)}")
    cell_of = {name: cell for cell, name in field_of.items() if name is not None}
    cells = [(name, cell_of.get(lowered)) for name, lowered in zip(names, lower, strict=True)]
    # Times are UTC's, but for those that say that they are local.
    constants = {"escaping": W3C, **({"zone": "+0000"} if field_of["date"] == "date" else {})}
    label = "cloudfront" if "x-edge-location" in lower else "iis" if "sc-win32-status" in lower else "w3c"
    by_tab, by_blank = (_w3c_pieces(cells, is_tab) for is_tab in (True, False))
    return LineFormat(label, by_tab, constants), LineFormat(label, by_blank, constants)


def _w3c_pieces(cells: Sequence[tuple[str, str | None]], is_tab: bool) -> tuple[Piece, ...]:
    pieces = []
    for index, (name, cell) in enumerate(cells):
        if index:
            pieces.append(Piece(r"\t" if is_tab else r"[ \t]++", (), "a tab" if is_tab else "a blank"))
        pieces.append(_w3c_piece(name, cell, is_tab))
    return tuple(pieces)


def _w3c_piece(name: str, cell: str | None, is_tab: bool) -> Piece:
    times = {"date": ISO_DATE, "time": ISO_TIME, "code": STATUS}
    if cell in times:
        anything = None if cell == "code" else r"[^\t]*+" if is_tab else r"\S++"
        return Piece(f'"?{times[cell]}"?', (cell,), name, anything)
    quoted, plain, separator = r'(?:[^"]|"")*+', r"[^\t]*+" if is_tab else r"\S++", r"\t\r" if is_tab else r"\s"
    # Atomic: else each field of a line that does not match would be tried in both ways, and all ways together.
    if cell is None:
        return Piece(f'(?>"{quoted}"(?![^{separator}])|{plain})', (), name)
    return Piece(f'(?>"({quoted})"(?![^{separator}])|({plain}))', (cell, cell), name)


# --- JSON ---


def json_format(name: str, paths: Mapping[str, tuple[str, ...]]) -> JsonFormat:
    """A JSON format from cell -> paths.

    Raises:
        ValueError: it lacks the address, the time, the request or the status.
    """
    if missing := _missing_fields(set(paths)):
        raise ValueError(f"the format has no {', '.join(missing)}")
    return JsonFormat(name, paths)


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
