"""Lines of web logs become rows: made, hostile and real ones; each is accounted for."""

import gzip
import random
import re
import shutil
from collections.abc import Iterable
from datetime import UTC, date
from functools import reduce
from pathlib import Path
from urllib.parse import unquote

import pytest
from data import weblog_reference
from data.weblog_writers import DECLARED, REQUESTS, WRITERS, Sent, Writer
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.testing import assertDataFrameEqual

from conf import Config, Paths, UserError
from etl.sources.lines import read_lines
from etl.tables import ods, ops
from etl.warehouse.store import Warehouse
from etl.weblog import job as weblog
from etl.weblog.formats.detection import detect_formats
from etl.weblog.formats.parse import parse
from etl.weblog.formats.reader import LogReader
from etl.weblog.settings import WeblogSettings
from etl.weblog.source import parse_lines

GOOD = '1.2.3.4 - bob [05/Feb/2026:07:08:09 +0800] "GET /a?b=1 HTTP/1.1" 200 12 "http://x.org/p/q?id=7&z=1" "Mozilla/5.0 (A B)"'

SEEDS = [
    GOOD.encode(),
    b'1.1.1.1 - - [06/Feb/2026:00:00:00 +0000] "HEAD / HTTP/1.1" 404 -',
    b'1.1.1.1 - - [06/Feb/2026:00:00:00 +0000] "-" 400 0 "-" "-"',
    b'1.1.1.1 - - [29/Feb/2028:23:59:60 +0000] "GET /a.PNG?x=\\"1\\" HTTP/1.1" 200 1 "http://x.org/" "a \\\\"',
]


def mutated(line: bytes) -> st.SearchStrategy[bytes]:
    """The line with a few bytes changed, put in or left out."""
    places = st.lists(st.tuples(st.integers(0, len(line)), st.integers(0, 2), st.binary(max_size=2)), max_size=3)

    def change(edits: list[tuple[int, int, bytes]]) -> bytes:
        text = line
        for place, cut, put in edits:
            text = text[:place] + put + text[place + cut :]
        return text

    return places.map(change)


@pytest.fixture
def warehouse(spark: SparkSession, config: Config) -> Warehouse:
    return Warehouse(spark, config)


@pytest.fixture
def loading_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows from the loaded requests is looked at in test_weblog_tables.py, and takes most of a run's time."""
    monkeypatch.setattr(weblog, "rebuild", lambda *_: None)


def load_lines(spark: SparkSession, config: Config, folder: Path, day: date, lines: list[bytes]) -> dict[str, int]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "access.log").write_bytes(b"\n".join(lines) + b"\n")
    return weblog.run(spark, config, [day], [str(folder)])


def test_a_line_becomes_its_columns(spark: SparkSession, config: Config, warehouse: Warehouse, tmp_path: Path) -> None:
    day = date(2026, 2, 5)
    counts = load_lines(spark, config, tmp_path, day, [GOOD.encode()])
    assert counts == {"rows_in": 1, "rows_out": 1, "rows_invalid": 0, "rows_quarantined": 0, "rows_other_date": 0}
    row = warehouse.read(ods.weblog_detail, [day]).collect()[0].asDict()
    assert row == {
        "valid": "true",
        "remote_addr": "1.2.3.4",
        "remote_user": "bob",
        "time_local": "2026-02-05 07:08:09",
        "daystr": "2026-02-05",
        "timestr": "07:08:09",
        "month": "02",
        "day": "05",
        "hour": "07",
        "request": "/a?b=1",
        "status": "200",
        "body_bytes_sent": "12",
        "http_referer": "http://x.org/p/q?id=7&z=1",
        "ref_host": "x.org",
        "ref_path": "/p/q",
        "ref_query": "id=7&z=1",
        "ref_query_id": "7",
        "http_user_agent": "Mozilla/5.0 (A B)",
        "datestr": "20260205",
    }


HOSTILE = [
    (GOOD.encode(), None),
    (b'1.1.1.1 - - [06/Feb/2026:00:00:00 +0000] "GET / HTTP/1.1" 200 1', None),  # common format
    (b'1.1.1.1 - - [06/Feb/2026:00:00:00 +0000] "-" 400 0 "-" "-"', None),
    (b'1.1.1.1 - - [06/Feb/2026:00:00:00 +0000] "GET /x.PNG?v=1 HTTP/1.1" 200 1 "-" "a"', None),
    (b'1.1.1.1 - - [06/Feb/2026:00:00:00 +0000] "GET /say\\"hi\\" HTTP/1.1" 200 1 "-" "a \\"b\\""', None),
    (b'1.1.1.1 - - [06/Feb/2026:00:00:00 +0000] "GET / HTTP/1.1" 200 1 "http://[bad" "a"', None),  # referrer is no URL
    (b'1.1.1.1 - - [99/Feb/2026:00:00:00 +0000] "GET / HTTP/1.1" 200 1 "-" "a"', "bad_time"),
    (b"", "empty_line"),
    (b"\x16\x03\x01 garbage", "not_combined_format"),
    (b'1.1.1.1 - - [06/Feb/2026:00:00:00 +0000] "GET /\xff\xfe HTTP/1.1" 200 1 "-" "a"', "invalid_utf8"),
    (b'1.1.1.1 - - [06/Feb/2026:00:00:00 +0000] "GET /' + b"a" * 10_000_000 + b' HTTP/1.1" 200 1 "-" "a"', "too_long"),
    (b'1.1.1.1 - - [06/Feb/2026:00:00:00 +0000] "GET /' + b"\\x" * 30_000 + b' HTTP/1.1" 200 1 "-" "a"', None),
    (b'1.1.1.1 - - [06/Feb/2026:00:00:00 +0000] "GET /cut', "not_combined_format"),
]


def test_hostile_lines_are_kept_or_quarantined_with_reason_and_place(
    spark: SparkSession, config: Config, warehouse: Warehouse, tmp_path: Path
) -> None:
    day = date(2026, 2, 6)
    counts = load_lines(spark, config, tmp_path, day, [line for line, _ in HOSTILE])
    refused = {number: reason for number, (_, reason) in enumerate(HOSTILE, 1) if reason}
    assert counts["rows_quarantined"] == len(refused)
    assert counts["rows_other_date"] == 1
    assert counts["rows_in"] + counts["rows_other_date"] == len(HOSTILE)
    found = warehouse.read(ods.quarantine, [day]).where("stage = 'weblog'").collect()
    assert {row["line_number"]: row["reason"] for row in found} == refused
    assert all(row["file"].endswith("access.log") for row in found)
    kept = {row["request"][:12]: row["valid"] for row in warehouse.read(ods.weblog_origin, [day]).collect()}
    assert (kept["-"], kept["/x.PNG?v=1"], kept['/say\\"hi\\"']) == ("false", "false", "true")


@pytest.mark.usefixtures("loading_alone")
def test_line_numbers_hold_across_the_splits_of_a_large_file(
    spark: SparkSession, config: Config, warehouse: Warehouse, tmp_path: Path
) -> None:
    day = date(2026, 2, 5)
    lines = [GOOD.encode()] * 3000
    bad = [17, 1500, 2999]
    for number in bad:
        lines[number - 1] = b"bad"
    before = spark.conf.get("spark.sql.files.maxPartitionBytes")
    spark.conf.set("spark.sql.files.maxPartitionBytes", "60000")
    try:
        load_lines(spark, config, tmp_path, day, lines)
    finally:
        spark.conf.set("spark.sql.files.maxPartitionBytes", before)
    assert sorted(row["line_number"] for row in warehouse.read(ods.quarantine, [day]).collect()) == bad


@pytest.mark.usefixtures("loading_alone")
def test_a_corrupt_gz_is_named_and_nothing_is_changed(
    spark: SparkSession, config: Config, warehouse: Warehouse, tmp_path: Path
) -> None:
    day = date(2026, 2, 8)
    line = GOOD.replace("05/Feb", "08/Feb").encode()
    whole = tmp_path / "whole.gz"
    whole.write_bytes(gzip.compress(b"\n".join([line] * 2000)))
    assert weblog.run(spark, config, [day], [str(whole)])["rows_out"] == 2000
    cut = tmp_path / "cut.gz"
    cut.write_bytes(whole.read_bytes()[:100])
    with pytest.raises(UserError, match=r"can't read file.*cut.gz: it is corrupt or cut off; nothing was changed"):
        weblog.run(spark, config, [day], [str(cut)])
    assert warehouse.read(ods.weblog_origin, [day]).count() == 2000
    failed = warehouse.read(ops.run, [day]).where("status = 'failed'").collect()
    assert "cut.gz" in failed[0]["error"]


def test_nothing_landed_is_said_in_one_line(spark: SparkSession, config: Config) -> None:
    with pytest.raises(UserError, match="nothing has landed for 2031-01-01"):
        weblog.run(spark, config, [date(2031, 1, 1)])
    with pytest.raises(UserError, match="--all-dates needs --source"):
        weblog.run(spark, config, [])
    with pytest.raises(UserError, match="no such file: /no/such"):
        weblog.run(spark, config, [date(2031, 1, 1)], ["/no/such"])


@pytest.mark.usefixtures("loading_alone")
def test_a_day_of_a_range_without_its_lines_keeps_its_rows_and_is_named(
    spark: SparkSession, config: Config, warehouse: Warehouse, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The folder of the day in the middle was removed after it was loaded."""
    days = [date(2026, 2, 16), date(2026, 2, 17), date(2026, 2, 18)]
    lines = [GOOD.replace("05/Feb", f"{day.day}/Feb") for day in days]
    for day, line in zip(days, lines, strict=True):
        folder = config.get(Paths).landing("weblog", day)
        folder.mkdir(parents=True)
        (folder / "access.log").write_text(line + "\n")
    assert weblog.run(spark, config, days)["rows_out"] == 3
    shutil.rmtree(config.get(Paths).landing("weblog", days[1]))
    assert weblog.run(spark, config, days)["rows_out"] == 2
    assert "2026-02-17: no files in the landing zone; what was loaded before stays" in caplog.text
    assert [warehouse.read(ods.weblog_origin, [day]).count() for day in days] == [1, 1, 1]
    named = tmp_path / "access.log"
    named.write_text(f"{lines[0]}\n{lines[2]}\n")
    caplog.clear()
    assert weblog.run(spark, config, days, [str(named)])["rows_out"] == 2
    assert "2026-02-17: no line in the files; what was loaded before stays" in caplog.text
    assert [warehouse.read(ods.weblog_origin, [day]).count() for day in days] == [1, 1, 1]
    named.write_text("no request\n")
    for several in ([], days):
        with pytest.raises(UserError, match="no known format"):
            weblog.run(spark, config, several, [str(named)])
    assert [warehouse.read(ods.weblog_origin, [day]).count() for day in days] == [1, 1, 1]
    assert not warehouse.has_partition(ods.weblog_origin, date.today())


def test_scanner_logs_lose_no_line(spark: SparkSession, config: Config, real_data: Path) -> None:
    """Their lines are full of attacks, and nearly all of them wrapped in quotes."""
    logs = sorted((real_data / "weblog-attacks").glob("*.txt"))
    counts = weblog.run(spark, config, [date(2026, 2, 9)], [str(log) for log in logs])
    data = [log.read_bytes() for log in logs]
    lines = sum(text.count(b"\n") + (not text.endswith(b"\n")) for text in data)
    assert len(logs) == 3
    assert counts["rows_in"] + counts["rows_other_date"] == lines
    assert counts["rows_quarantined"] == 0


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@example([b'1.1.1.1 - - [6/Feb/2026:00:00:00 +0000] "-" 400 0', b'- 1 b [5/Feb/0002:6:0:0] "" 002 1 "" ""'])
@example([b'1.1.1.1 - - [06/feb/2026:00:00:00 +0000] "-" 400 0', b'1.1.1.1 - - [06/Feb/1989:00:00:00 +0000] "-" 400 0'])
@given(st.lists(st.one_of(st.binary(max_size=120), st.sampled_from(SEEDS).flatmap(mutated)), min_size=1, max_size=60))
def test_any_bytes_are_accounted_for(
    spark: SparkSession, config: Config, tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    """Every line is a row that plain Python reads alike, or in quarantine with a reason."""
    whole = [line.replace(b"\n", b"") for line in lines]
    folder = tmp_path_factory.mktemp("any")
    (folder / "access.log").write_bytes(b"\n".join(whole) + b"\n")
    found = parse(read_lines(spark, [str(folder / "access.log")]), 65536, date(1990, 1, 1), date(2059, 12, 31))
    rows = found.orderBy("id").select("reason", "valid", "remote_addr", "time_local", "request", "status").collect()
    assert len(rows) == len(whole)
    for line, row in zip(whole, rows, strict=True):
        request = weblog_reference.parse(line)
        assert (row["reason"] is None) == (request is not None), (line, row)
        if request:
            expected = (
                str(request.is_valid).lower(),
                request.addr,
                str(request.at),
                request.request,
                request.status,
            )
            assert (row[1], row[2], row[3], row[4], int(row[5])) == expected


@pytest.mark.usefixtures("loading_alone")
def test_referrers_are_taken_apart_as_hive_does(spark: SparkSession, config: Config, tmp_path: Path) -> None:
    """W4: the wide table holds what `LATERAL VIEW parse_url_tuple` says of the narrow one, also for random URLs."""
    day = date(2026, 2, 12)
    urls = [
        "http://x.org",
        "https://a-b.c.org/p%20q/?id=7&x=%zz",
        "http://x.org:80/p?id=1#top",
        "http://1.2.3.4/?aid=5&id=6",
    ]
    urls += [
        "http://under_score.org/a",
        "http://user@x.org/",
        "ftp://x.org/a?id=2",
        "x.org/a",
        "http://x.org?",
        "http:///a",
        "a b",
        "HTTP://X.org:8080/a/./b/../c?q#f",
        "http://[::1]:80/",
        "http://x.org:no/",
        "//x.org/",
        " http://x.org/ ",
    ]
    chance = random.Random(2)
    urls += ["http://" + "".join(chance.choices("aZ0-._%2F/?#:@&=+id é", k=chance.randint(0, 14))) for _ in range(3000)]
    urls = list(dict.fromkeys(urls))
    line = GOOD.replace("05/Feb", "12/Feb").replace("http://x.org/p/q?id=7&z=1", "{}")
    load_lines(spark, config, tmp_path, day, [line.format(url).encode() for url in urls])
    by_hive = spark.sql(
        "select http_referer, b.* from ods_weblog_origin lateral view "
        """parse_url_tuple(regexp_replace(http_referer, '"', ''), 'HOST', 'PATH', 'QUERY', 'QUERY:id') b """
        "as ref_host, ref_path, ref_query, ref_query_id where datestr = '20260212'"
    )
    ours = spark.sql(
        "select http_referer, ref_host, ref_path, ref_query, ref_query_id from ods_weblog_detail where datestr = '20260212'"
    )
    assert by_hive.count() == len(urls)
    assertDataFrameEqual(ours, by_hive)


@pytest.mark.usefixtures("loading_alone")
def test_a_file_that_grew_adds_nothing_twice(spark: SparkSession, config: Config, tmp_path: Path) -> None:
    day, line = date(2026, 2, 13), GOOD.replace("05/Feb", "13/Feb").encode()
    for grown in (20, 30):
        assert load_lines(spark, config, tmp_path, day, [line] * grown)["rows_in"] == grown


# --- formats ---

COMPARED = (
    *("remote_addr", "remote_user", "time_local", "requested_at", "method", "request", "status", "bytes"),
    *("http_referer", "http_user_agent", "host", "valid"),
)


def parse_files(spark: SparkSession, config: Config, files: Iterable[Path]) -> DataFrame:
    reader = LogReader(spark, config.get(WeblogSettings).log_format)
    lines = reader.read([str(path) for path in files])
    return parse_lines(lines, reader.format_sets, config, [date(2026, 2, 5)])


def rows_by_file(parsed: DataFrame) -> dict[str, list[Row]]:
    """Name of each file -> its rows in the order of the lines."""
    by_file: dict[str, list[Row]] = {}
    for row in parsed.select("file", "position", "reason", *COMPARED).orderBy("file", "position").collect():
        by_file.setdefault(Path(unquote(row["file"])).name, []).append(row)
    return by_file


def expected_row(sent: Sent, writer: Writer) -> tuple[object, ...]:
    """What the columns of COMPARED hold of a request that `writer` wrote."""

    def text(part: str, value: str | None) -> str:
        return "-" if value is None or part in writer.lacks else value

    size = 0 if sent.size is None and writer.writes_no_bytes_as_0 else sent.size
    local = sent.at.astimezone(UTC) if writer.is_utc else sent.at
    return (
        sent.addr,
        text("user", sent.user),
        f"{local:%Y-%m-%d %H:%M:%S}",
        sent.at.astimezone(UTC).replace(tzinfo=None),
        sent.method,
        sent.url,
        str(sent.status),
        None if "size" in writer.lacks else size,
        text("referer", sent.referer),
        text("agent", sent.agent),
        None if "host" in writer.lacks else sent.host,
        "false" if sent.status >= 400 or re.search(r"\.(AVIF|woff2)\b", sent.url) else "true",
    )


def check_requests(name: str, rows: list[Row], writer: Writer) -> None:
    assert [(name, row["reason"]) for row in rows] == [(name, None)] * len(REQUESTS)
    for row, sent in zip(rows, REQUESTS, strict=True):
        assert (name, *(row[column] for column in COMPARED)) == (name, *expected_row(sent, writer))


def test_requests_come_back_equal_from_every_format(spark: SparkSession, config: Config, tmp_path: Path) -> None:
    """24 of them in each; the format of each file is detected, and files of all formats are one pass."""
    files = {name: tmp_path / f"{name} é 100%.log" for name in WRITERS}
    for name, path in files.items():
        path.write_text(WRITERS[name].text(REQUESTS))
    detected = detect_formats([str(path) for path in files.values()], config.get(WeblogSettings).log_format)
    assert {name: detected[str(path)][0].name for name, path in files.items()} == {name: name for name in files}
    by_file = rows_by_file(parse_files(spark, config, files.values()))
    for name, path in files.items():
        check_requests(name, by_file[path.name], WRITERS[name])


def test_requests_come_back_equal_from_a_format_of_ones_own(
    spark: SparkSession, config: Config, tmp_path: Path
) -> None:
    """As an nginx `log_format`, an Apache `LogFormat`, a JSON mapping and a W3C `#Fields` line."""
    parsed = []
    for name, writer in DECLARED.items():
        (tmp_path / f"{name}.log").write_text(writer.text(REQUESTS))
        declared = config.with_values({"weblog.log_format": writer.log_format})
        parsed.append(parse_files(spark, declared, [tmp_path / f"{name}.log"]))
    by_file = rows_by_file(reduce(DataFrame.unionByName, parsed))
    for name, writer in DECLARED.items():
        check_requests(name, by_file[f"{name}.log"], writer)


def test_a_w3c_header_counts_for_the_lines_below_it(spark: SparkSession, config: Config, tmp_path: Path) -> None:
    """Also where another server's log, lines of another format or a directory of files are in between."""
    requests, other = REQUESTS[:5], WRITERS["cloudfront"]
    text = WRITERS["iis"].text(requests) + other.text(requests) + WRITERS["iis"].text(requests)
    changed = "#Fields: sc-status c-ip cs-method cs-uri-stem date time\n404 1.2.3.4 GET /a.b 2026-02-05 10:11:12\n"
    (tmp_path / "joined.log").write_text(
        text + WRITERS["nginx_main"].text(requests) + changed + "\n# a remark\ncut off\n"
    )
    (tmp_path / "plain.log").write_text(WRITERS["combined"].text(requests))
    by_file = rows_by_file(parse_files(spark, config, sorted(tmp_path.iterdir())))
    writers = [WRITERS[name] for name in ("iis", "cloudfront", "iis", "nginx_main") for _ in requests]
    joined = by_file["joined.log"]
    for row, sent, writer in zip(joined, requests * 4, writers, strict=False):
        assert tuple(row[column] for column in COMPARED) == expected_row(sent, writer)
    assert (joined[20]["status"], joined[20]["remote_addr"], joined[20]["request"]) == ("404", "1.2.3.4", "/a.b")
    assert [row["reason"] for row in joined[20:]] == [None, "empty_line", "not_w3c_format"]
    assert [row["reason"] for row in by_file["plain.log"]] == [None] * 5


@pytest.mark.usefixtures("loading_alone")
def test_a_format_that_no_sampled_line_has_is_read_too(
    spark: SparkSession, config: Config, warehouse: Warehouse, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In a day's file after its first hundred lines, on a day of its own, and below a W3C header; rubbish stays out."""
    day = date(2026, 2, 20)
    caplog.set_level("INFO")
    first, second = (GOOD.replace("05/Feb", f"{number}/Feb") for number in (20, 21))
    iis = WRITERS["iis"].text(REQUESTS[:2]).replace("2026-02-05", "2026-02-21")
    (tmp_path / "a.log").write_text(
        f"{first}\n" * 150 + "rubbish\n" * 3 + f"{first} 0.004\n" * 20 + f"{first}\n" * 150 + f"{second} 0.004\n" + iis
    )
    counts = weblog.run(spark, config, [day], [str(tmp_path / "a.log")])
    assert (counts["rows_out"], counts["rows_quarantined"], counts["rows_other_date"]) == (320, 3, 3)
    assert "a.log: also iis, combined_with_times" in caplog.text
    by_reason = warehouse.read(ods.quarantine, [day]).groupBy("reason").count().collect()
    assert [tuple(row) for row in by_reason] == [("not_iis_format", 3)]
    assert weblog.run(spark, config, [], [str(tmp_path / "a.log")])["rows_out"] == 323
    declared = config.with_values({"weblog.log_format": "combined"})  # what the user says is not looked behind
    assert weblog.run(spark, declared, [day], [str(tmp_path / "a.log")])["rows_out"] == 300


REAL_LOGS = {
    # file: (lines that are no header, of them read)
    "log-formats/alb.log": (1, 1),
    "log-formats/amazon_cloudfront_web.log": (1, 1),
    "log-formats/caddy_json.log": (3, 3),
    "log-formats/common.log": (1, 1),
    "log-formats/common.log.bz2": (1, 1),
    "log-formats/common_complete.log": (1, 1),
    "log-formats/common_vhost.log": (1, 1),
    "log-formats/iis.log": (1, 1),
    "log-formats/iis_custom.log": (6, 3),  # three blank lines
    "log-formats/incapsula_w3c.log": (2, 1),  # one without a status
    "log-formats/logs_to_tests.log": (6, 4),  # a blank line and a remark
    "log-formats/ncsa_extended.log": (1, 1),
    "log-formats/netscaler.log": (1, 1),
    "log-formats/nginx_json.log": (2, 2),
    "log-formats/ovh.log": (1, 1),
    "log-formats/shoutcast.log": (1, 1),
    "log-formats/splitted_date_and_time.log": (1, 1),
    "log-formats/static_ignores.log": (4, 4),
    "log-formats/traefik_json.log": (1, 1),
    "cloud-logs/alb_logs.log.gz": (666, 666),
    "cloud-logs/cloudfront_logs.log": (36, 34),  # two blank lines
    "cloud-logs/nginx_access.log.gz": (996, 996),
    "cloud-logs/u_ex171118-sample.log": (142, 142),
}


def test_real_logs_of_many_servers_are_read(spark: SparkSession, config: Config, real_data: Path) -> None:
    by_file = rows_by_file(parse_files(spark, config, [real_data / name for name in REAL_LOGS]))
    counts = {}
    for name in REAL_LOGS:
        rows = by_file[Path(name).name]
        counts[name] = (len(rows), sum(row["reason"] is None for row in rows))
    assert counts == REAL_LOGS


NO_FORMAT = {
    "log-formats/haproxy.log": r"Line 1 differs from .* at column \d+ \('06:05:27 hostname",
    "log-formats/s3.log": r"Line 1 differs from .* at column 82 \('\[10/Feb/2012",
    "log-formats/elb.log": r"Line 1 differs from .* at column \d+ ",
    "log-formats/icecast2.log": r"Line 1 differs from combined at column 182 \(' 1807', expected: the end of the line\), from",
    "log-formats/amazon_cloudfront_rtmp.log": "",
}


@pytest.mark.parametrize("name", NO_FORMAT)
def test_a_log_of_no_known_format_is_an_error_that_says_where_it_differs(
    config: Config, real_data: Path, name: str
) -> None:
    with pytest.raises(UserError, match=rf"{name}: no known format.* give --log-format.*{NO_FORMAT[name]}"):
        detect_formats([str(real_data / name)], config.get(WeblogSettings).log_format)


@pytest.mark.parametrize(
    ("log_format", "message"),
    [
        ("combinde", "no such format; give .* one of .*combined"),
        ("$remote_addr [$time_local] $status", r"the format has no \$request"),
        ("%h %{%d.%m.%Y}t %r %s", r"can't read times written as %\{%d.%m.%Y\}t"),
        ("#Fields: date time cs-uri-stem sc-status", "has no c-ip"),
        ('{"remote_addr": "ip", "when": "t"}', "unknown field 'when'; fields are remote_addr"),
        ({"remote_addr": "ip"}, "the format has no status, time, request"),
    ],
)
def test_a_format_that_cant_be_read_is_refused(config: Config, log_format: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        config.with_values({"weblog.log_format": log_format})


def test_a_named_format_that_no_line_has_is_an_error(config: Config, tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(GOOD + "\n")
    for name, message in (
        ("alb", "in the format given.*Line 1 differs from alb at column 1"),
        ("iis", "no #Fields line"),
    ):
        settings = config.with_values({"weblog.log_format": name}).get(WeblogSettings)
        with pytest.raises(UserError, match=message):
            detect_formats([str(tmp_path / "a.log")], settings.log_format)


PROXIES = ["10.0.0.0/8", "192.0.2.1/32", "2001:db8:ffff::/48"]
CLIENTS = [
    # address of the connection, X-Forwarded-For, the client
    ("203.0.113.9", "198.51.100.4", "203.0.113.9"),  # not by a proxy of ours: anybody can send the header
    ("10.1.2.3", "198.51.100.4", "198.51.100.4"),
    ("10.1.2.3", "6.6.6.6, 198.51.100.4, 10.9.9.9", "198.51.100.4"),  # the first was made up
    ("192.0.2.1", "198.51.100.4,192.0.2.2", "192.0.2.2"),
    ("10.1.2.3", "-", "10.1.2.3"),
    ("10.1.2.3", "10.4.4.4, 10.5.5.5", "10.4.4.4"),  # from within
    ("2001:db8:ffff::7", "2001:DB8::1", "2001:DB8::1"),
    ("2001:db8:ffff:1:2:3:4:5", "198.51.100.4:5123, unknown", "198.51.100.4"),
    ("::ffff:10.1.2.3", "[2001:db8::2]:443", "2001:db8::2"),
    ("web7.example.org", "198.51.100.4", "web7.example.org"),
    ("110.1.2.3", "198.51.100.4", "110.1.2.3"),
]


def test_a_client_behind_trusted_proxies_is_the_nearest_address_that_is_not_one(
    spark: SparkSession, config: Config, tmp_path: Path
) -> None:
    line = '{} - - [05/Feb/2026:07:08:09 +0000] "GET /a.pdf HTTP/1.1" 200 12 "-" "a" "{}"\n'
    (tmp_path / "a.log").write_text("".join(line.format(*client) for client in CLIENTS))
    trusting = config.with_values({"weblog.trusted_proxies": PROXIES, "weblog.static_suffixes": ["pdf"]})
    rows = rows_by_file(parse_files(spark, trusting, [tmp_path / "a.log"]))["a.log"]
    assert [row["remote_addr"] for row in rows] == [client for _, _, client in CLIENTS]
    assert {row["valid"] for row in rows} == {"false"}
    with pytest.raises(UserError, match=r"weblog.trusted_proxies = \['10.0.0.0/33'\]: .*10.0.0.0/8"):
        config.with_values({"weblog.trusted_proxies": ["10.0.0.0/33"]})
