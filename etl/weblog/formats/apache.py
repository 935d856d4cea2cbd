"""Formats from Apache's `LogFormat`: its directives as nginx's variables of the same meaning."""

import re

from etl.weblog.formats.format import LineFormat
from etl.weblog.formats.nginx import compile_tokens, split_tokens

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
# Names that nginx has for the same (weblog.visitor_key), or that no variable of nginx has.
_APACHE_NAMED = {"i": "http_", "C": "cookie_", "o": "sent_http_", "n": "note_", "e": "env_"}
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
    for is_literal, text in split_tokens(template, _DIRECTIVE):
        tokens += [(True, text)] if is_literal else _apache_tokens(text)
    return compile_tokens(name, tokens)


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
    if letter in _APACHE_NAMED and braces is not None:
        own_name = f"{_APACHE_NAMED[letter]}{braces[1]}".lower().replace("-", "_")
        return [(False, _APACHE_HEADERS.get(braces[1].lower(), own_name) if letter == "i" else own_name)]
    return [(False, _APACHE_VARIABLES.get(letter, "other"))]
