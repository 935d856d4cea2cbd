"""Who a visitor is, which site a request is of and which day it belongs to, from the lines to the analysts' tables."""

import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import reduce
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pyspark.sql import DataFrame, SparkSession

from conf import Config, UserError
from etl.table import Table
from etl.tables import ads, dim, dwd, dws, ods
from etl.warehouse.store import Warehouse
from etl.weblog import clickstream
from etl.weblog import job as weblog
from etl.weblog.formats.reader import LogReader
from etl.weblog.settings import WeblogSettings
from etl.weblog.source import parse_lines

COOKIE = f"cookie:{hashlib.sha256(b'u1').hexdigest()[:32]}"
NGINX = '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_user_agent" '
START = '1.1.1.1 - {} [01/Mar/2017:09:00:00 +0000] "GET / HTTP/1.1" 200 1 "{}" '
W3C = "#Fields: date time c-ip cs-method cs-uri-stem sc-status cs(Cookie) x-user-id"
CADDY = {
    "ts": 1488358800.5,
    "request": {"remote_ip": "1.1.1.1", "method": "GET", "host": "x.org", "uri": "/", "headers": {"Cookie": ["a=1; uid=u1"]}},
    "status": 200,
}  # fmt: skip
ROW = {"remote_addr": "1.1.1.1", "time": "2017-03-01T09:00:00Z", "request": "GET / HTTP/1.1", "status": "200"}

# name: (key, format, lines and the visitor of each)
KEYS: dict[str, tuple[str, str | None, dict[str, str]]] = {
    "address": ("address", NGINX.strip(), {START.format("bob", "a").strip(): "1.1.1.1"}),
    "agent": (
        "address+agent",
        NGINX.strip(),
        # xxhash64 of "a", as dim_user_agent has it
        {START.format("-", "a").strip(): "1.1.1.1 AGENT", START.format("-", "-").strip(): "1.1.1.1"},
    ),
    "user": ("user", NGINX.strip(), {START.format("j d", "a").strip(): "user:j d", START.format("-", "a").strip(): "1.1.1.1"}),
    "nginx": (
        "cookie:uid",
        NGINX + '"$cookie_uid"',
        {START.format("-", "a") + '"u1"': COOKIE, START.format("-", "a") + '"-"': "1.1.1.1"},
    ),
    "header": (
        "cookie:uid",
        NGINX + '"$http_cookie"',
        {
            START.format("-", "a") + '"xuid=no; uid=u1; z=2"': COOKIE,
            START.format("-", "a") + '"xuid=no"': "1.1.1.1",
            START.format("-", "a") + '"uid=u1"': COOKIE,
        },
    ),
    "apache": ("cookie:uid", '%h %l %u %t "%r" %>s %b "%{User-Agent}i" %{uid}C', {START.format("-", "a") + "u1": COOKIE}),
    "note": (
        "field:http_x_user",
        '%h %l %u %t "%r" %>s %b "%{User-Agent}i" "%{X-User}i"',
        {START.format("-", "a") + '"7"': "field:7"},
    ),
    "w3c": (
        "cookie:uid",
        None,
        {
            "2017-03-01 09:00:00 1.1.1.1 GET / 200 b=1;+uid=u1 -": COOKIE,
            "2017-03-01 09:00:00 1.1.1.1 GET / 200 b=1;%20uid=u1 -": COOKIE,
            "2017-03-01 09:00:00 1.1.1.1 GET / 200 - 7": "1.1.1.1",
        },
    ),
    "w3c field": ("field:X-User-ID", None, {'2017-03-01 09:00:00 1.1.1.1 GET / 200 - "7"': "field:7"}),
    "caddy": ("cookie:uid", None, {json.dumps(CADDY): COOKIE}),
    "nginx json": (
        "cookie:uid",
        '{"a": "$remote_addr", "t": "$time_iso8601", "r": "$request", "s": $status, "visitor": "$cookie_uid"}',
        {'{"a": "1.1.1.1", "t": "2017-03-01T09:00:00Z", "r": "GET / HTTP/1.1", "s": 200, "visitor": "u1"}': COOKIE},
    ),
    "mapping": (
        "field:session.id",
        json.dumps({name: name for name in ROW}),
        {json.dumps(ROW | {"session": {"id": 7}}): "field:7", json.dumps(ROW): "1.1.1.1"},
    ),
}  # fmt: skip


def parse_file(spark: SparkSession, config: Config, path: Path) -> DataFrame:
    reader = LogReader(spark, config.get(WeblogSettings).log_format)
    lines = reader.read([str(path)])
    return parse_lines(lines, reader.format_sets, config, [date(2017, 3, 1)])


def test_a_visitor_is_what_the_key_says_in_every_kind_of_format(
    spark: SparkSession, config: Config, tmp_path: Path
) -> None:
    """And the address where a line has none."""
    parsed = []
    for name, (key, log_format, lines) in KEYS.items():
        header = [W3C] if name.startswith("w3c") else []
        (tmp_path / name).write_text("\n".join([*header, *lines]) + "\n")
        chosen = config.with_values({"weblog.visitor_key": key, "weblog.log_format": log_format})
        parsed.append(parse_file(spark, chosen, tmp_path / name))
    rows = reduce(DataFrame.unionByName, [rows.select("line", "reason", "visitor_id") for rows in parsed]).collect()
    agent = spark.sql("select lower(hex(xxhash64('a')))").collect()[0][0]
    expected = [(line, None, key.replace("AGENT", agent)) for *_, of in KEYS.values() for line, key in of.items()]
    assert sorted(map(tuple, rows)) == sorted(expected)


def test_a_key_that_no_line_has_is_refused(spark: SparkSession, config: Config, tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(START.format("-", "a") + "\n")
    with pytest.raises(UserError, match=r"weblog.visitor_key = 'agent': 'agent' is no key; write address, "):
        config.with_values({"weblog.visitor_key": "agent"})
    with pytest.raises(UserError, match=r"weblog.hosts = \['http://x.org'\]: .* is no host: write it as"):
        config.with_values({"weblog.hosts": ["http://x.org"]})
    with pytest.raises(
        UserError, match=r"weblog.visitor_key=cookie:uid: the lines \(custom\) have no such cookie; name"
    ):
        parse_file(
            spark,
            config.with_values({"weblog.visitor_key": "cookie:uid", "weblog.log_format": NGINX.strip()}),
            tmp_path / "a.log",
        )


# --- the tables ---

DAYS = [date(2017, 3, day) for day in (1, 2, 3)]
FORMAT = '$remote_addr $host [$time_local] "$request" $status "$http_referer" "$cookie_uid"'


def write_log(path: Path, *requests: tuple[str, str, str, str], referrer: str = "-") -> list[str]:
    """A log of (cookie, 'dd HH:MM', host, page), each from another address."""
    text = '10.0.0.{} {} [{}/Mar/2017:{}:00 +0000] "GET {} HTTP/1.1" 200 "{}" "{}"\n'
    lines = [
        text.format(n, host, at[:2], at[3:], page, referrer, cookie)
        for n, (cookie, at, host, page) in enumerate(requests, 1)
    ]
    path.write_text("".join(lines))
    return [str(path)]


def rows(warehouse: Warehouse, table: Table, day: date, *names: str) -> list[tuple[Any, ...]]:
    return sorted((tuple(row) for row in warehouse.read(table, [day]).select(*names).collect()), key=str)


@pytest.fixture
def no_visitors(spark: SparkSession) -> Iterator[None]:
    """No visitor of other tests, who are told apart by another key, before and after the test."""
    spark.sql("drop table if exists dim_visitor")
    yield
    spark.sql("drop table if exists dim_visitor")


@pytest.mark.usefixtures("no_visitors")
def test_visits_and_visitors_follow_the_key_and_the_site(
    spark: SparkSession, config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Ann's addresses change with each view; she is on two sites at once, over midnight, and Bob comes back."""
    warehouse, ann, bob = Warehouse(spark, config), *[
        f"cookie:{hashlib.sha256(name.encode()).hexdigest()[:32]}" for name in ("ann", "bob")
    ]  # fmt: skip
    settings = {
        "weblog.log_format": FORMAT,
        "weblog.visitor_key": "cookie:uid",
        "weblog.site_from": "host",
        "weblog.hosts": ["*.x.org", "Y.org"],
        "weblog.funnels": {"main": ["^/a", "^/b"]},
    }
    by_cookie = config.with_values(settings)
    source = write_log(
        tmp_path / "a.log",
        ("ann", "01 09:00", "www.x.org", "/a"),
        ("ann", "01 09:10", "y.org:443", "/b"),  # no second step: of another site
        ("ann", "01 09:20", "WWW.x.org", "/c"),
        ("-", "01 09:20", "www.x.org", "/c"),
        ("bob", "01 23:50", "y.org", "/a"),
        ("bob", "02 00:05", "y.org", "/b"),
        ("bob", "02 00:10", "www.x.org", "/b"),
        ("bob", "02 12:00", "y.org", "/b"),
        ("ann", "02 12:00", "z.org", "/elsewhere"),
        ("ann", "02 12:00", "x.org", "/elsewhere"),  # *.x.org is what lies below
    )
    counts = [weblog.run(spark, by_cookie, [day], source) for day in DAYS[:2]]
    assert [(count["rows_out"], count["rows_invalid"]) for count in counts] == [(5, 0), (3, 2)]
    assert "2017-03-02: 2 requests of other sites than weblog.hosts are invalid (x.org 1, z.org 1)" in caplog.text
    columns = ("visitor_id", "site", "remote_addr", "inPage", "outPage", "pageVisits")
    assert rows(warehouse, ods.click_stream_visit, DAYS[0], *columns) == sorted(
        [
            ("10.0.0.4", "www.x.org", "10.0.0.4", "/c", "/c", 1),
            (ann, "www.x.org", "10.0.0.1", "/a", "/c", 2),
            (ann, "y.org", "10.0.0.2", "/b", "/b", 1),
            (bob, "y.org", "10.0.0.5", "/a", "/b", 2),
        ],
        key=str,
    )
    visitors = ("visitor_id", "remote_addr", "first_seen", "visitor_key")
    assert rows(warehouse, dim.visitor, DAYS[1], *visitors) == sorted(
        [
            ("10.0.0.4", "10.0.0.4", "2017-03-01 09:20:00", "cookie:uid"),
            (ann, "10.0.0.3", "2017-03-01 09:00:00", "cookie:uid"),
            (bob, "10.0.0.8", "2017-03-01 23:50:00", "cookie:uid"),
        ],
        key=str,
    )
    daily = ("visitors", "new_visitors", "returning_visitors", "visits")
    assert [rows(warehouse, ads.visitor_daily, day, *daily) for day in DAYS[:2]] == [[(3, 3, 1, 4)], [(1, 0, 1, 2)]]
    assert rows(warehouse, ads.returning_visitor, DAYS[0], "visitor_id", "visits") == [(ann, 2)]
    assert rows(warehouse, ads.oute_nums, DAYS[0], "step", "numbs") == [("step1", 2), ("step2", 1)]
    assert rows(warehouse, ads.page_top10, DAYS[0], "site", "rank", "request", "pvs") == [
        ("www.x.org", 1, "/c", 2),
        ("www.x.org", 2, "/a", 1),
        ("y.org", 1, "/a", 1),
        ("y.org", 2, "/b", 1),
    ]
    later = write_log(tmp_path / "b.log", ("ann", "03 09:00", "www.x.org", "/a"))
    message = "weblog.visitor_key=address, but the visitors up to 20170302 are told apart by cookie:uid: load all days"
    with pytest.raises(UserError, match=message):
        weblog.run(spark, by_cookie.with_values({"weblog.visitor_key": "address"}), DAYS[2:], later)
    assert not warehouse.has_partition(dwd.weblog_request, DAYS[2])


def test_the_site_of_a_static_file_is_that_of_the_page_around_it(
    spark: SparkSession, config: Config, tmp_path: Path
) -> None:
    """The host of the log is the CDN's; a page's referrer is where its reader came from."""
    requests = [("-", "01 09:00", "cdn.net", "/a.png"), ("-", "01 09:00", "www.x.org", "/")]
    write_log(tmp_path / "a.log", *requests, referrer="http://WWW.x.org/p")
    write_log(tmp_path / "b.log", requests[0])
    values = {"weblog.log_format": FORMAT, "weblog.site_from": "referrer", "weblog.hosts": ["www.x.org"]}
    parsed = [parse_file(spark, config.with_values(values), tmp_path / name) for name in ("a.log", "b.log")]
    sites = reduce(DataFrame.unionByName, [rows.select("host", "site", "valid") for rows in parsed]).collect()
    assert [tuple(row) for row in sites] == [
        ("cdn.net", "www.x.org", "false"),
        ("www.x.org", "www.x.org", "true"),
        ("cdn.net", "cdn.net", "false"),
    ]


# --- a change of the clock ---

BERLIN = ZoneInfo("Europe/Berlin")
SUMMER_TIME = datetime(2018, 3, 25, 1, tzinfo=UTC)  # 02:00 +0100 is 03:00 +0200


def month_of_requests() -> list[tuple[str, datetime]]:
    """(address, time) of 34 days around the change, most of them near midnights and the change; in no order."""
    chance = random.Random(34)
    times = [
        SUMMER_TIME + timedelta(days=day, minutes=chance.gauss(-120, 40)) for day in range(-17, 17) for _ in "12345"
    ]
    requests = [(f"10.0.0.{chance.randint(1, 3)}", at.replace(microsecond=0)) for at in times]
    # A single visit, of two hours by the clock less one that there is not.
    requests += [("10.0.0.9", SUMMER_TIME + timedelta(minutes=minutes)) for minutes in range(-30, 31, 10)]
    chance.shuffle(requests)
    return requests


def expected_visits(requests: Sequence[tuple[str, datetime]]) -> dict[str, list[tuple[str, str, str, int]]]:
    """By day: (address, first and last time, views) of runs without a gap of over half an hour that passed."""
    runs: list[list[tuple[str, datetime]]] = []
    for addr, at in sorted(requests):
        if not runs or runs[-1][-1][0] != addr or at - runs[-1][-1][1] > timedelta(minutes=30):
            runs.append([])
        runs[-1].append((addr, at))
    visits: dict[str, list[tuple[str, str, str, int]]] = {}
    for run in runs:
        first, last = (f"{at.astimezone(BERLIN):%Y-%m-%d %H:%M:%S}" for _, at in (run[0], run[-1]))
        visits.setdefault(first[:10].replace("-", ""), []).append((run[0][0], first, last, len(run)))
    return {day: sorted(of_day) for day, of_day in visits.items()}


def test_days_and_visits_of_a_month_over_the_change_to_summer_time(
    spark: SparkSession, config: Config, tmp_path: Path
) -> None:
    """Offsets change from +0100 to +0200 in the lines; in the site's zone the same come of a log in UTC."""
    requests, expected = month_of_requests(), expected_visits(month_of_requests())
    line = '{} - - [{:%d/%b/%Y:%H:%M:%S %z}] "GET /{} HTTP/1.1" 200 10 "-" "-"\n'
    for name, zone in (("local.log", BERLIN), ("utc.log", UTC)):
        texts = [line.format(addr, at.astimezone(zone), number) for number, (addr, at) in enumerate(requests)]
        (tmp_path / name).write_text("".join(texts))
    in_zone = config.with_values({"site.timezone": "Europe/Berlin"})
    # What went on over the change and over a midnight is among them.
    spans = [(first, last) for of_day in expected.values() for _, first, last, _ in of_day]
    assert any(first < "2018-03-25 02" and last > "2018-03-25 03" for first, last in spans)
    assert any(first[:10] < last[:10] for first, last in spans)
    assert len(expected) >= 34
    none_open = spark.createDataFrame([], dws.open_visit.schema_text)
    for name, chosen in (("local.log", config), ("utc.log", in_zone)):
        views = clickstream.add_visits(parse_file(spark, chosen, tmp_path / name), none_open).persist()
        visits = clickstream.aggregate_visits(views, none_open)
        by_day: dict[str, list[tuple[Any, ...]]] = {}
        for row in visits.select("datestr", "remote_addr", "inTime", "outTime", "pageVisits").collect():
            by_day.setdefault(row[0], []).append(tuple(row[1:]))
        assert {day: sorted(of_day) for day, of_day in by_day.items()} == expected
        stays = [row[0] for row in views.select("stay_time").where("stay_time is not null").collect()]
        assert 0 <= min(stays) < max(stays) <= 1800
        views.unpersist()
