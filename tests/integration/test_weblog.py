"""Web logs on Spark against an independent computation in plain Python, on made, hostile and real lines."""

import gzip
import re
from collections import Counter
from datetime import date, datetime
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from conf import Config, Paths, UserError
from etl.jobs import weblog
from etl.tables import ads, ods, ops
from etl.warehouse import Warehouse

GOOD = '1.2.3.4 - bob [05/Feb/2026:07:08:09 +0800] "GET /a?b=1 HTTP/1.1" 200 12 "http://x.org/p/q?id=7&z=1" "Mozilla/5.0 (A B)"'
STATIC = re.compile(r"\.(js|css|map|png|jpe?g|gif|ico|svg|webp|bmp|woff2?|ttf|eot|otf|mp3|mp4|swf)$", re.IGNORECASE)
COMBINED = re.compile(
    rb'^(\S+) (\S+) (\S+) \[([^\]]*)\] "((?:[^"\\]|\\.)*)" (\d{3}) (\d+|-)(?: "((?:[^"\\]|\\.)*)" "((?:[^"\\]|\\.)*)")?\s*$'
)


def plain_parse(line: bytes) -> tuple[str, str, bool] | None:
    """(datestr, hour, is valid) of a line, or None for one to quarantine; another route to the same rules."""
    found = COMBINED.match(line)
    if not found:
        return None
    try:
        line.decode()
        moment = datetime.strptime(found[4].decode()[:20], "%d/%b/%Y:%H:%M:%S")
    except ValueError:
        return None
    request = re.match(rb"^(\S+) (\S.*?)(?: HTTP/\d(?:\.\d)?)?$", found[5])
    valid = bool(request) and int(found[6]) < 400 and not STATIC.search(request[2].decode().split("?")[0])  # type: ignore[index]
    return moment.strftime("%Y%m%d"), moment.strftime("%H"), valid


@pytest.fixture
def warehouse(spark: SparkSession, config: Config) -> Warehouse:
    return Warehouse(spark, config.get(Paths))


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


def test_loading_a_day_again_gives_the_same_rows(
    spark: SparkSession, config: Config, warehouse: Warehouse, tmp_path: Path
) -> None:
    day = date(2026, 2, 7)
    line = GOOD.replace("05/Feb", "07/Feb").encode()
    first = load_lines(spark, config, tmp_path, day, [line] * 5)
    assert load_lines(spark, config, tmp_path, day, [line] * 5) == first
    assert warehouse.read(ods.weblog_detail, [day]).count() == 5


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
    with pytest.raises(UserError, match="no such file: /no/such"):
        weblog.run(spark, config, [date(2031, 1, 1)], ["/no/such"])


def test_the_real_log_agrees_with_plain_python(
    spark: SparkSession, config: Config, warehouse: Warehouse, real_data: Path
) -> None:
    """W2, W7: every line accounted for, page views per hour by another route."""
    log = real_data / "weblog/access.log"
    day = date(2013, 9, 18)
    parsed = [plain_parse(line) for line in log.read_bytes().split(b"\n")[:-1]]
    today = [row for row in parsed if row and row[0] == "20130918"]
    counts = weblog.run(spark, config, [day], [str(log)])
    assert counts["rows_in"] + counts["rows_other_date"] == len(parsed) == 14619
    assert counts["rows_out"] == sum(valid for _, _, valid in today)
    assert counts["rows_invalid"] == sum(not valid for _, _, valid in today)
    assert counts["rows_quarantined"] == sum(row is None for row in parsed)
    views = {row["hour"]: row["pvs"] for row in warehouse.read(ads.pv_hourly, [day]).collect()}
    assert views == Counter(hour for _, hour, valid in today if valid)


@pytest.mark.parametrize("name", ["acunetix.txt", "netsparker.txt", "w3af.txt"])
def test_scanner_logs_lose_no_line(spark: SparkSession, config: Config, real_data: Path, name: str) -> None:
    """Their lines are wrapped in quotes and full of attacks: read or quarantined, never lost."""
    log = real_data / "weblog-attacks" / name
    counts = weblog.run(spark, config, [date(2026, 2, 9)], [str(log)])
    data = log.read_bytes()
    assert counts["rows_in"] + counts["rows_other_date"] == data.count(b"\n") + (not data.endswith(b"\n"))
