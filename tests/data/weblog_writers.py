"""Requests, and how servers write them: one writer for each format of a web log."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import quote

EAST, WEST = timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-5))


@dataclass(frozen=True)
class Sent:
    """A request as the server got it."""

    addr: str = "203.0.113.7"
    user: str | None = None
    at: datetime = datetime(2026, 2, 5, 7, 8, 9, tzinfo=UTC)
    is_leap: bool = False
    """Whether the second is written as 60."""
    method: str = "GET"
    url: str = "/"
    status: int = 200
    size: int | None = 1234
    referer: str | None = None
    agent: str | None = "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/128.0"
    forwarded: str | None = None
    host: str = "www.example.org"

    def clf(self, at: datetime | None = None) -> str:
        return self._leap(f"{at or self.at:%d/%b/%Y:%H:%M:%S %z}")

    def iso(self, at: datetime | None = None) -> str:
        return self._leap((at or self.at).isoformat())

    def _leap(self, text: str) -> str:
        return text.replace(":59:59", ":59:60") if self.is_leap else text


REQUESTS = [
    Sent(),
    Sent(addr="2001:db8::1", url="/v6"),
    Sent(addr="2001:db8:0:1:2:3:4:5", url="/v6/long"),
    Sent(addr="::1", url="/loopback"),
    Sent(user="bob", url="/private/"),
    Sent(user="jane doe", url="/private/blank"),
    Sent(url="/search?q=big+data&page=2&lang=de"),
    Sent(url="/?utm_source=a&utm_medium=b%20c"),
    Sent(url="/caf%C3%A9/%E6%95%B0%E6%8D%AE?n=%F0%9F%98%80"),
    Sent(url="/100%25?x=%22quoted%22"),
    Sent(status=304, size=0, url="/cached"),
    Sent(status=304, size=None, url="/cached/again"),
    Sent(status=404, size=162, url="/gone", referer="https://www.example.org/search?q=a&b=c"),
    Sent(status=500, size=0, url="/broken", method="POST"),
    Sent(method="HEAD", url="/head", size=0),
    Sent(method="OPTIONS", url="/cors", agent=None),
    Sent(agent='Agent "quoted" 1.0', url="/quotes"),
    Sent(agent="curl/8.5.0", url="/curl", forwarded="198.51.100.4, 10.0.0.2"),
    Sent(url="/site.AVIF?v=3", referer="http://other.example/p/q?id=7"),
    Sent(url="/fonts/a.woff2", host="static.example.org"),
    Sent(at=datetime(2026, 2, 5, 23, 30, 0, tzinfo=WEST), url="/west"),
    Sent(at=datetime(2026, 2, 5, 2, 15, 0, tzinfo=EAST), url="/east"),
    Sent(at=datetime(2026, 2, 5, 23, 59, 59, tzinfo=UTC), is_leap=True, url="/leap"),
    Sent(url="/" + "long/" * 400, size=123456789012),
]


def _dash(value: object) -> str:
    return "-" if value is None else str(value)


def _escaped(text: str | None) -> str:
    return "-" if text is None else text.replace("\\", "\\\\").replace('"', '\\"')


def _escaped_by_nginx(text: str | None) -> str:
    return "-" if text is None else text.replace("\\", "\\x5C").replace('"', "\\x22")


def _common(sent: Sent) -> str:
    request = f"{sent.method} {sent.url} HTTP/1.1"
    return f'{sent.addr} - {_dash(sent.user)} [{sent.clf()}] "{request}" {sent.status} {_dash(sent.size)}'


def _combined(sent: Sent) -> str:
    return f'{_common(sent)} "{_dash(sent.referer)}" "{_escaped(sent.agent)}"'


def _main(sent: Sent) -> str:
    agent = _escaped_by_nginx(sent.agent)
    return f'{_common(sent)} "{_dash(sent.referer)}" "{agent}" "{_dash(sent.forwarded)}"'


def _ingress(sent: Sent) -> str:
    tail = "512 0.004 [shop-web-80] [] 10.4.0.7:8080, 10.4.0.9:8080 0, 1234 0.000, 0.004 502, 200 8d5f"
    return f"{_combined(sent)} {tail}"


def _alb(sent: Sent) -> str:
    at = sent.iso(sent.at.astimezone(UTC)).replace("+00:00", ".127531Z")
    client = f"[{sent.addr}]:2817" if ":" in sent.addr else f"{sent.addr}:2817"
    return (
        f"h2 {at} app/web/50dc {client} 10.0.0.1:80 0.001 0.102 0.000 {sent.status} {sent.status} 225 {sent.size or 0} "
        f'"{sent.method} https://{sent.host}:443{sent.url} HTTP/2.0" "{_escaped(sent.agent)}" ECDHE-RSA TLSv1.2 '
        f'arn:aws:x "Root=1-58" "{sent.host}" "arn:cert" 0 {at} "forward" "-" "-" "10.0.0.1:80" "200"'
    )


def _iis(sent: Sent) -> str:
    at, (path, _, query) = sent.iso(sent.at.astimezone(UTC)), sent.url.partition("?")
    agent, user = (_dash(text).replace(" ", "+") for text in (sent.agent, sent.user))
    return (
        f"{at[:10]} {at[11:19]} 10.1.1.1 {sent.method} {path} {query or '-'} 443 {user} {sent.addr} "
        f"{agent} {_dash(sent.referer)} {sent.host} {sent.status} 0 0 {sent.size or 0} 46"
    )


def _cloudfront(sent: Sent) -> str:
    at, (path, _, query) = sent.iso(sent.at.astimezone(UTC)), sent.url.partition("?")
    agent = "-" if sent.agent is None else quote(sent.agent, safe="/();:,")
    cells = [at[:10], at[11:19], "FRA2", sent.size or 0, sent.addr, sent.method, "d1.cloudfront.net", path, sent.status]
    cells += [_dash(sent.referer), agent, query or "-", "-", "Hit", "id==", sent.host, "https", 217, "0.001"]
    return "\t".join(map(str, [*cells, _dash(sent.forwarded and sent.forwarded.replace(" ", "%20"))]))


def _caddy(sent: Sent) -> str:
    headers = {"User-Agent": sent.agent, "Referer": sent.referer, "X-Forwarded-For": sent.forwarded}
    request = {
        "remote_ip": sent.addr,
        "client_ip": sent.addr,
        "proto": "HTTP/2.0",
        "method": sent.method,
        "host": sent.host,
        "uri": sent.url,
        "headers": {name: [value] for name, value in headers.items() if value is not None},
    }
    entry = {"level": "info", "ts": sent.at.timestamp() + 0.25, "logger": "http.log.access", "msg": "handled request"}
    return json.dumps(
        {**entry, "request": request, "user_id": sent.user or "", "size": sent.size or 0, "status": sent.status}
    )


def _traefik_json(sent: Sent) -> str:
    entry = {"ClientAddr": f"{sent.addr}:5", "ClientHost": sent.addr, "ClientUsername": _dash(sent.user)}
    entry |= {"RequestMethod": sent.method, "RequestPath": sent.url, "RequestHost": sent.host}
    utc = sent.iso(sent.at.astimezone(UTC)).replace("+00:00", ".773360139Z")
    sizes = {"DownstreamContentSize": sent.size or 0, "DownstreamStatus": sent.status, "StartUTC": utc}
    headers = {"request_User-Agent": _dash(sent.agent), "request_Referer": _dash(sent.referer)}
    return json.dumps({**entry, **sizes, **headers, "level": "info"})


def _nginx_json(sent: Sent) -> str:
    entry = {"time_iso8601": sent.iso(), "remote_addr": sent.addr, "remote_user": sent.user or ""}
    entry |= {"request": f"{sent.method} {sent.url} HTTP/1.1", "status": str(sent.status), "host": sent.host}
    entry |= {"http_referer": sent.referer or "", "http_user_agent": sent.agent or ""}
    return json.dumps({**entry, "body_bytes_sent": sent.size or 0}, ensure_ascii=False)


def _own_nginx(sent: Sent) -> str:
    agent = _escaped_by_nginx(sent.agent)
    at, request = sent.iso(), f"{sent.method} {sent.url} HTTP/1.1"
    return f'{at}|{sent.host}|{sent.addr}|{_dash(sent.user)}|"{request}"|{sent.status}|{sent.size or 0}|"{agent}"'


def _own_apache(sent: Sent) -> str:
    return (
        f'{sent.host}:443 {sent.addr} "{_dash(sent.user)}" [{sent.clf()}] {sent.method} {sent.url} {sent.status} 1807'
    )


IIS_HEADER = (
    "#Software: Microsoft Internet Information Services 10.0\n#Fields: date time s-ip cs-method cs-uri-stem cs-uri-query "
    "s-port cs-username c-ip cs(User-Agent) cs(Referer) cs-host sc-status sc-substatus sc-win32-status sc-bytes time-taken\n"
)
CLOUDFRONT_HEADER = (
    "#Version: 1.0\n#Fields: date time x-edge-location sc-bytes c-ip cs-method cs(Host) cs-uri-stem sc-status cs(Referer) "
    "cs(User-Agent) cs-uri-query cs(Cookie) x-edge-result-type x-edge-request-id x-host-header cs-protocol cs-bytes "
    "time-taken x-forwarded-for\n"
)


@dataclass(frozen=True)
class Writer:
    """How a server writes requests, and which parts of them its format has."""

    line: Callable[[Sent], str]
    lacks: frozenset[str] = frozenset()
    is_utc: bool = False
    """Whether times are written in UTC, whatever the server's zone."""
    writes_no_bytes_as_0: bool = True
    header: str = ""
    log_format: str | None = None
    """To be given: the format can't be detected."""

    def text(self, requests: list[Sent]) -> str:
        return self.header + "".join(f"{self.line(request)}\n" for request in requests)


def _writer(line: Callable[[Sent], str], *lacks: str, **options: object) -> Writer:
    return Writer(line, frozenset(lacks), **options)  # type: ignore[arg-type]


_APACHE = {"writes_no_bytes_as_0": False}
WRITERS = {
    "common": _writer(_common, "referer", "agent", "host", **_APACHE),
    "combined": _writer(_combined, "host", **_APACHE),
    "quoted_combined": _writer(lambda sent: f'"{_combined(sent)}"', "host", **_APACHE),
    "nginx_main": _writer(_main, "host", **_APACHE),
    "combined_with_times": _writer(lambda sent: f"{_combined(sent)} 0.004 0.003", "host", **_APACHE),
    "ingress_nginx": _writer(_ingress, "host", **_APACHE),
    "vhost_combined": _writer(lambda sent: f"{sent.host}:443 {_combined(sent)}", **_APACHE),
    "traefik": _writer(lambda sent: f'{_combined(sent)} 17 "web@docker" "http://10.0.0.9:80" 4ms', "host", **_APACHE),
    "traefik_json": _writer(_traefik_json, is_utc=True),
    "caddy": _writer(_caddy, is_utc=True),
    "nginx_json": _writer(_nginx_json),
    "iis": _writer(_iis, is_utc=True, header=IIS_HEADER),
    "cloudfront": _writer(_cloudfront, "user", is_utc=True, header=CLOUDFRONT_HEADER),
    "alb": _writer(_alb, "user", "referer", is_utc=True),
}
# Formats of one's own, as --log-format takes them.
DECLARED = {
    "nginx log_format": _writer(
        _own_nginx,
        "referer",
        log_format="log_format own '$time_iso8601|$host|$remote_addr|$remote_user|\"$request\"|'\n"
        "  '$status|$body_bytes_sent|\"$http_user_agent\"';",
    ),
    "Apache LogFormat": _writer(
        _own_apache, "size", "referer", "agent", log_format=r"%v:%p %h \"%u\" %t %m %U%q %>s %D"
    ),
    "JSON mapping": _writer(
        _nginx_json,
        "referer",
        log_format='{"remote_addr": "remote_addr", "remote_user": "remote_user", "time": "time_iso8601", '
        '"request": "request", "status": "status", "bytes": "body_bytes_sent", "user_agent": "http_user_agent", '
        '"host": "host"}',
    ),
    "#Fields line": _writer(_iis, is_utc=True, log_format=IIS_HEADER.splitlines()[1]),
}
