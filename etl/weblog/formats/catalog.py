"""The web-log formats that are known by name: the fields and the pattern of each."""

import json
from collections.abc import Mapping
from typing import Any

from etl.weblog.formats.apache import apache_format
from etl.weblog.formats.format import (
    CLF_CELLS,
    CLF_TIME,
    ISO,
    ISO_CELLS,
    QUOTED,
    SIZE,
    STATUS,
    USER,
    Format,
    Formats,
    JsonFormat,
    LineFormat,
    Piece,
    mapped_format,
)
from etl.weblog.formats.nginx import nginx_format
from etl.weblog.formats.w3c import FIELDS_LINE, w3c_formats

# Parts of lines; see format.Piece. The second word of a line is an identity that nobody has, or a site (OVH's logs).
_ADDR = Piece(r"(\S++) ", ("addr",), "the address")
_IDENT = Piece(r"(?:([\w-]++(?:\.[\w-]++)++)|\S++) ", ("host",), "the identity")
_USER = Piece(rf"{USER} ", ("user",), "the user")
_TIME = Piece(rf"\[{CLF_TIME}([^\]]*+)\] ", CLF_CELLS, "[the time]", r"\[[^\]]*+\] ")
_REQUEST = Piece(f"{QUOTED} ", ("request_line",), '"the request"')
_STATUS = Piece(f"{STATUS} ", ("code",), "the status")
_SIZE = Piece(SIZE, ("size",), "the bytes")
_CLIENT = Piece(f" {QUOTED} {QUOTED}", ("referer", "agent"), '"the referrer" "the agent"')
_CLIENT_IF_ANY = Piece(f"(?: {QUOTED} {QUOTED})?+", ("referer", "agent"), '"the referrer" "the agent"')
_FORWARDED = Piece(f" {QUOTED}", ("forwarded",), '"$http_x_forwarded_for"')
_FORWARDED_IF_ANY = Piece(f"(?: {QUOTED})?+", ("forwarded",), '"$http_x_forwarded_for"')

_ADDRESS = r"(\d{1,3}(?:\.\d{1,3}){3}|[\da-fA-F]*+:[\da-fA-F:.]++)"
_CLF = (_ADDR, _IDENT, _USER, _TIME, _REQUEST, _STATUS, _SIZE)
# Only an address in the second place tells a site before the line from a user with blanks.
_VHOST = (
    Piece(r"([^\s:]++)(?::\d++)?+ ", ("host",), "the site"),
    Piece(f"{_ADDRESS} ", ("addr",), "the address"),
    Piece(r"\S++ ", (), "the identity"),
    *_CLF[2:],
)
# `0.005 0.004`, `rt=0.005 uct="0.000, 0.001"`: nginx writes times with a point. (A whole number at the end may be an
# Icecast's seconds or Apache's microseconds: such a format has to be named.)
_SECONDS = r"(?:-|\d++\.\d++)(?:(?:, | : )(?:-|\d++\.\d++))*+"
_REQUEST_TIMES = Piece(rf'(?: (?:\w++=)?+"?+\d++\.\d++"?+)(?: (?:\w++=)?+"?+{_SECONDS}"?+)*+', (), "the request time")
_UPSTREAMS = r" [^\s,]++(?:(?:, ?| : )[^\s,]++)*+"  # one, or those that were tried one after the other
_INGRESS = Piece(
    rf" \d++ \d++\.\d++ \[[^\]]*+\](?: \[[^\]]*+\])?+{4 * _UPSTREAMS}(?: \S++)?+",
    (),
    "the request length",
)
_TRAEFIK = Piece(r' \d++ "[^"]*+" "[^"]*+" \d++ms', (), "the count of requests")
_ALB = (
    Piece(r"(?:https?|h2|wss?|grpcs) ", (), "http, https, h2, ws, wss or grpcs"),
    Piece(f"{ISO} ", ISO_CELLS, "the time", r"\S++ "),
    Piece(r"\S++ ", (), "the load balancer"),
    Piece(r"(?:\[([^\]\s]++)\]|([^\s\[]+)):\d++ ", ("addr", "addr"), "client:port"),
    Piece(r"\S++ \S++ \S++ \S++ ", (), "target and times"),
    Piece(f"{STATUS} ", ("code",), "the status"),
    Piece(rf"\S++ \S++ {SIZE} ", ("size",), "the bytes"),
    # The whole URL: its host is a column of its own.
    Piece(
        r'"(\S++) (?:\w++://(\[[^\]\s]*+\]|[^\s/:?]*+)(?::\d++)?+)?+'
        r'([^"\\]*?(?:\\.[^"\\]*?)*?)(?: (?:HTTP/[\d.]++|-))?+ ?"',
        ("method", "host", "url"),
        '"the request"',
    ),
    Piece(f" {QUOTED} ", ("agent",), '"the agent"'),
    Piece(r"\S++ \S++.*+", (), "cipher and protocol"),
)


# In the order in which a line is tried: those that say more about it come first.
FORMATS: dict[str, Format] = {
    format.name: format
    for format in (
        JsonFormat(
            "caddy",
            {
                "addr": ("request.client_ip", "request.remote_ip", "request.remote_addr"),
                "user": ("user_id",),
                "stamp": ("ts",),
                "method": ("request.method",),
                "url": ("request.uri",),
                "code": ("status",),
                "size": ("size",),
                "referer": ("request.headers.Referer.0",),
                "agent": ("request.headers.User-Agent.0",),
                "forwarded": ("request.headers.X-Forwarded-For.0",),
                "host": ("request.host",),
            },
        ),
        JsonFormat(
            "traefik_json",
            {
                "addr": ("ClientHost",),
                "user": ("ClientUsername",),
                "stamp": ("StartUTC", "StartLocal", "time"),
                "method": ("RequestMethod",),
                "url": ("RequestPath",),
                "code": ("DownstreamStatus", "OriginStatus"),
                "size": ("DownstreamContentSize",),
                "referer": ("request_Referer",),
                "agent": ("request_User-Agent",),
                "forwarded": ("request_X-Forwarded-For",),
                "host": ("RequestHost", "RequestAddr"),
            },
        ),
        JsonFormat(
            "nginx_json",
            {
                "addr": ("remote_addr", "ip", "client_ip", "clientip", "remote_ip", "client", "remoteip"),
                "user": ("remote_user", "user", "remoteuser"),
                "stamp": ("time_iso8601", "time_local", "@timestamp", "timestamp", "date", "time", "ts", "msec"),
                "request_line": ("request",),
                "method": ("request_method", "method", "verb"),
                "url": ("request_uri", "uri", "path", "url"),
                "query": ("args", "query_string"),
                "code": ("status", "response", "status_code"),
                "size": ("body_bytes_sent", "bytes_sent", "bytes", "length", "size"),
                "referer": ("http_referer", "http_referrer", "referer", "referrer"),
                "agent": ("http_user_agent", "user_agent", "agent"),
                "forwarded": ("http_x_forwarded_for", "x_forwarded_for", "xff"),
                "host": ("host", "http_host", "server_name", "vhost"),
            },
        ),
        LineFormat("alb", tuple(_ALB)),
        LineFormat(
            "vhost_combined",
            (
                *_VHOST,
                _CLIENT_IF_ANY,
            ),
        ),
        LineFormat(
            "traefik",
            (
                *_CLF,
                _CLIENT,
                _TRAEFIK,
            ),
        ),
        LineFormat(
            "ingress_nginx",
            (
                *_CLF,
                _CLIENT,
                _INGRESS,
            ),
        ),
        LineFormat(
            "combined_with_times",
            (
                *_CLF,
                _CLIENT,
                _FORWARDED_IF_ANY,
                _REQUEST_TIMES,
            ),
        ),
        LineFormat(
            "nginx_main",
            (
                *_CLF,
                _CLIENT,
                _FORWARDED,
            ),
        ),
        # Both read each other's lines: a server's format changes with its settings.
        LineFormat(
            "combined",
            (
                *_CLF,
                _CLIENT_IF_ANY,
            ),
        ),
        LineFormat(
            "common",
            (
                *_CLF,
                _CLIENT_IF_ANY,
            ),
        ),
        # The quotes around the line are missing from some lines of such logs.
        LineFormat(
            "quoted_combined",
            (
                Piece('"?+', (), "a quote"),
                *_CLF,
                _CLIENT,
                Piece('"?+', (), "a quote"),
            ),
        ),
    )
}
COMBINED: Formats = (FORMATS["combined"],)
W3C_NAMES = ("w3c", "iis", "cloudfront")  # each file declares its fields itself


Declaration = str | Mapping[str, Any] | None
"""A format as a setting or `--log-format` says it; None to detect it."""


def declared_formats(declaration: Declaration) -> Formats | None:
    """The formats that a setting or `--log-format` declares.

    Args:
        declaration: a name of FORMATS or W3C_NAMES, an nginx `log_format`, an Apache `LogFormat`, a `#Fields:` line, or
            a JSON mapping of fields to paths, also as text.

    Returns:
        None without a declaration; no formats for W3C logs, whose files say it themselves.

    Raises:
        ValueError: the declaration is none of these.
    """
    if declaration is None:
        return None
    if isinstance(declaration, Mapping):
        return (mapped_format("json", declaration),)
    text = declaration.strip()
    if text in W3C_NAMES:
        return ()
    if text in FORMATS:
        return (FORMATS[text],)
    if text.startswith(FIELDS_LINE):
        return w3c_formats(text)
    if "$" in text:
        return (nginx_format("custom", text),)
    if text.startswith("{"):
        mapping = json.loads(text)
        return (mapped_format("json", mapping),)
    if "%" in text:
        return (apache_format("custom", text),)
    names = ", ".join((*FORMATS, *W3C_NAMES))
    raise ValueError(f"no such format; give an nginx log_format, an Apache LogFormat, a #Fields line or one of {names}")
