"""Who a visitor is: the address of a request, or what the setting `weblog.visitor_key` takes in its place."""

import re
from collections.abc import Sequence
from dataclasses import replace

from pyspark.sql import Column
from pyspark.sql import functions as F

from conf import UserError
from etl.weblog.formats.format import Format, Formats, JsonFormat, Piece
from etl.weblog.formats.keys import VisitorKey

# A whole header, which a cookie is taken out of: its names in nginx, Apache and W3C, and its paths in JSON.
_COOKIE_FIELDS = ("http_cookie", "cs(cookie)")
_COOKIE_PATHS = ("http_cookie", "request.headers.Cookie.0", "request_Cookie", "cookie")


def with_visitor_cells(format_sets: Sequence[Formats], key: VisitorKey) -> list[Formats]:
    """The formats with the cells that `visitor_id` needs of their lines.

    Raises:
        UserError: none of them has the cookie or field.
    """
    if key.kind not in ("cookie", "field"):
        return list(format_sets)
    extended = [tuple(_with_cells(format, key) for format in formats) for formats in format_sets]
    if not any({"visitor", "cookies"} & format.cells for formats in extended for format in formats):
        names = ", ".join(dict.fromkeys(format.name for formats in format_sets for format in formats))
        raise UserError(
            f"weblog.visitor_key={key.kind}:{key.name}: the lines ({names}) have no such {key.kind}; name a format "
            "that has it by weblog.log_format, or set another key"
        )
    return extended


def _with_cells(format: Format, key: VisitorKey) -> Format:
    names = (f"cookie_{key.name}",) if key.kind == "cookie" else (key.name,)
    if isinstance(format, JsonFormat):
        cookies = {"cookies": _COOKIE_PATHS} if key.kind == "cookie" else {}
        paths = tuple(format.variables.get(name, name) for name in names)
        return replace(format, paths={**format.paths, "visitor": paths, **cookies})
    cell_of = dict.fromkeys(map(str.lower, names), "visitor")
    if key.kind == "cookie":
        cell_of |= dict.fromkeys(_COOKIE_FIELDS, "cookies")
    return replace(format, pieces=tuple(_captured(piece, cell_of) for piece in format.pieces))


def _captured(piece: Piece, cell_of: dict[str, str]) -> Piece:
    cell = cell_of.get(piece.label.lstrip("$").lower())
    # Around its own groups: numbers are given by opening brackets.
    return replace(piece, regex=f"({piece.regex})", cells=(cell, *piece.cells)) if cell else piece


def visitor_id(key: VisitorKey) -> Column:
    """The visitor of a request: by the key, and where the line has none (empty or -) the address."""
    address = F.col("remote_addr")
    if key.kind == "address":
        return address
    if key.kind == "address+agent":
        return F.when(F.col("http_user_agent") == "-", address).otherwise(
            F.concat_ws(" ", address, F.lower(F.hex("agent_key")))
        )
    value: Column = F.col("remote_user")
    if key.kind != "user":
        value = F.trim(F.col("visitor"), F.lit('"'))
    if key.kind == "cookie":
        of_header = F.regexp_extract("cookies", rf'(?:^|[";,\s+]|%20){re.escape(key.name)}=([^;",\s]*)', 1)
        own = F.when(value.isin("", "-"), of_header).otherwise(value)
        # A session's cookie lets its bearer in: what the tables hold must not.
        value = F.when(own.isin("", "-"), "-").otherwise(F.substring(F.sha2(own, 256), 1, 32))
    # With its kind: a user may have an address for a name.
    return F.when(value.isin("", "-"), address).otherwise(F.concat(F.lit(f"{key.kind}:"), value))
