"""Formats from nginx's `log_format`: texts and variables compiled to a pattern, or to the keys of JSON documents."""

import json
import re
from collections.abc import Sequence

from etl.weblog.formats.format import (
    CLF_CELLS,
    CLF_TIME,
    ISO,
    ISO_CELLS,
    SIZE,
    STATUS,
    TEXT,
    USER,
    JsonFormat,
    LineFormat,
    Piece,
    json_format,
)

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
    tokens = split_tokens(template.replace("$uri$is_args$args", "$request_uri"), _VARIABLE)
    return compile_tokens(
        name, [(is_literal, text.strip("${}") if not is_literal else text) for is_literal, text in tokens]
    )


def _nginx_json(name: str, template: str) -> JsonFormat:
    # Numbers are written without quotes: {"status": $status}.
    quoted = re.sub(r"(:\s*)(\$\{?\w+\}?)", r'\1"\2"', template)
    try:
        keys = json.loads(quoted)
    except ValueError as error:
        raise ValueError(f"this log_format is no JSON: {error}") from None
    paths: dict[str, tuple[str, ...]] = {}
    variables: dict[str, str] = {}
    for key, value in keys.items():
        variable = str(value).strip("${}")
        cell = "stamp" if variable in _TIMES else NGINX_VARIABLES.get(variable)
        if cell is not None:
            paths[cell] = (*paths.get(cell, ()), key)
        else:
            variables[variable] = key
    return json_format(name, paths, variables)


def split_tokens(template: str, variable: re.Pattern[str]) -> list[tuple[bool, str]]:
    """(is it literal, its text) of each part."""
    tokens, position = [], 0
    for match in variable.finditer(template):
        if match.start() > position:
            tokens.append((True, template[position : match.start()]))
        tokens.append((False, match[0]))
        position = match.end()
    return [*tokens, (True, template[position:])] if template[position:] else tokens


_TIMES = ("time_local", "time_iso8601", "msec")


def compile_tokens(name: str, tokens: Sequence[tuple[bool, str]]) -> LineFormat:
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
