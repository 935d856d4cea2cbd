"""Lines of web logs become rows: made, hostile and real ones; each is accounted for."""

import gzip
import random
import shutil
from datetime import date
from pathlib import Path

import pytest
from data import weblog_reference
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.testing import assertDataFrameEqual

from conf import Config, Paths, UserError
from etl.sources.lines import read_lines
from etl.tables import ods, ops
from etl.warehouse.store import Warehouse
from etl.weblog import job as weblog
from etl.weblog.parse import parse

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
    with pytest.raises(UserError, match=r"can't read file:.*cut.gz: it is corrupt or cut off; nothing was changed"):
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
        with pytest.raises(UserError, match=r"no line that can be read.*; nothing was changed"):
            weblog.run(spark, config, several, [str(named)])
    assert [warehouse.read(ods.weblog_origin, [day]).count() for day in days] == [1, 1, 1]
    assert not warehouse.has_partition(ods.weblog_origin, date.today())


def test_scanner_logs_lose_no_line(spark: SparkSession, config: Config, real_data: Path) -> None:
    """Their lines are wrapped in quotes and full of attacks: read or quarantined, never lost."""
    logs = sorted((real_data / "weblog-attacks").glob("*.txt"))
    counts = weblog.run(spark, config, [date(2026, 2, 9)], [str(log) for log in logs])
    data = [log.read_bytes() for log in logs]
    lines = sum(text.count(b"\n") + (not text.endswith(b"\n")) for text in data)
    assert len(logs) == 3
    assert counts["rows_in"] + counts["rows_other_date"] == lines


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
