"""The analysts' tables against plain Python, on the real log and on visits made to cross midnights."""

import re
from collections import Counter
from collections.abc import Sequence
from datetime import date
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from data import weblog_reference as reference
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from support import ROOT

from conf import Config, Paths
from etl.table import Table
from etl.tables import ALL, ads, dim, dwd, dws, ods
from etl.warehouse.quality import QualityError
from etl.warehouse.query import query
from etl.warehouse.store import Warehouse
from etl.warehouse.vacuum import vacuum
from etl.weblog import job as weblog
from etl.weblog import reports
from etl.weblog.dimensions import describe_agent
from etl.weblog.source import DAY

STEPS = ["^/$", "^/[^/]+/$", "cf_action=sync_comments"]


@pytest.fixture
def warehouse(spark: SparkSession, config: Config) -> Warehouse:
    return Warehouse(spark, config)


def rows(warehouse: Warehouse, table: Table, day: date, *names: str) -> list[tuple[Any, ...]]:
    found = warehouse.read(table, [day]).select(*(names or table.column_names)).collect()
    return [tuple(row) for row in found]


ALL_TABLES = (
    ods.click_stream_pageviews,
    ods.click_stream_visit,
    dws.open_visit,
    dim.visitor,
    ads.pv_hourly,
    ads.pv_daily,
    ads.pv_referer_hourly,
    ads.pv_ref_host_hourly,
    ads.ref_host_top3_hourly,
    ads.page_top10,
    ads.visitor_daily,
    ads.new_visitor,
    ads.returning_visitor,
    ads.oute_nums,
    ads.funnel,
)


BY_SQL = [table for table in ALL_TABLES if (ROOT / f"etl/weblog/sql/{table.name}.sql").exists()]


def everything(warehouse: Warehouse, days: Sequence[date]) -> list[tuple[str, str]]:
    """(table, row as text) of all tables of some days, in order. One query: each alone costs a quarter of a second."""
    frames = [
        warehouse.read(table, days).select(F.lit(table.name), F.struct("*").cast("string")) for table in ALL_TABLES
    ]
    return sorted(tuple(row) for row in reduce(DataFrame.union, frames).collect())


def as_text(table: Table, rows: DataFrame) -> DataFrame:
    columns = [F.col(column.name).cast(column.type) for column in table.columns]
    return rows.select(F.lit(table.name), F.struct(*columns, table.partition).cast("string"))


def test_every_table_agrees_with_plain_python_on_the_real_log(
    spark: SparkSession, config: Config, warehouse: Warehouse, real_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W2–W10 on both days of the log, given as a whole (--all-dates); days made again are below."""
    log = real_data / "weblog/access.log"
    days = [date(2013, 9, 18), date(2013, 9, 19)]
    config = config.with_values({"weblog.funnels": {"main": STEPS}})
    read = [reference.parse(line) for line in log.read_bytes().split(b"\n")[:-1]]
    views = [request for request in read if request and request.is_valid]
    visits = reference.visits(views)

    counts = weblog.run(spark, config, [], [str(log)])
    assert counts["rows_in"] == len(read) == 14619
    assert counts["rows_out"] == len(views)
    assert counts["rows_quarantined"] == read.count(None)
    for day in days:
        check_day(warehouse, day, views, visits)
    # The same SQL by Spark, as for a log that is too large for DuckDB.
    monkeypatch.setattr(reports, "answer", lambda *_: None)
    frames = []
    for table in BY_SQL:
        result = reports.query(warehouse, reports.statement(table), {}, table, days)
        assert isinstance(result, DataFrame)
        frames.append((as_text(table, result), as_text(table, warehouse.read(table, days))))
    by_spark, by_duckdb = (sorted(reduce(DataFrame.union, side).collect()) for side in zip(*frames, strict=True))
    assert {row[0] for row in by_spark} == {table.name for table in BY_SQL}
    assert by_spark == by_duckdb


def check_day(warehouse: Warehouse, day: date, views: list[reference.Request], visits: list[reference.Visit]) -> None:
    today = reference.of_day(views, day)
    begun = [visit for visit in visits if visit.views[0].at.date() == day]
    seen_before = {view.addr for view in views if view.at.date() < day}
    visitors = {view.addr for view in today}
    human = [view for view in today if view.method != "HEAD" and not describe_agent(view.agent)[0]]

    pvs, pvs_human = (Counter(f"{view.at:%H}" for view in some) for some in (today, human))
    assert {row[0]: row[1:] for row in rows(warehouse, ads.pv_hourly, day, "hour", "pvs", "pvs_human")} == {
        hour: (pvs[hour], pvs_human[hour]) for hour in pvs
    }
    assert rows(warehouse, ads.pv_daily, day) == [(f"{day:%m}", f"{day:%d}", len(today), len(human))]
    by_referer = Counter((f"{view.at:%H}", view.referer, view.ref_host) for view in today if view.ref_host)
    names = ("hour", "http_referer", "ref_host", "pvs")
    assert {row[:3]: row[3] for row in rows(warehouse, ads.pv_referer_hourly, day, *names)} == by_referer
    by_host = Counter((f"{view.at:%H}", view.ref_host) for view in today if view.ref_host)
    assert {
        row[:2]: row[2] for row in rows(warehouse, ads.pv_ref_host_hourly, day, "hour", "ref_host", "pvs")
    } == by_host
    names = ("hour", "ref_host", "pvs", "rank")
    assert set(rows(warehouse, ads.ref_host_top3_hourly, day, *names)) == reference.top_hosts(today)
    pages = sorted(Counter(view.request for view in today).items(), key=lambda item: (-item[1], item[0]))[:10]
    assert sorted(rows(warehouse, ads.page_top10, day, "rank", "request", "pvs")) == [
        (rank, page, count) for rank, (page, count) in enumerate(pages, 1)
    ]

    names = ("remote_addr", "inTime", "outTime", "inPage", "outPage", "referal", "pageVisits")
    assert sorted(rows(warehouse, ods.click_stream_visit, day, *names)) == sorted(visit.row for visit in begun)
    assert len(rows(warehouse, ods.click_stream_pageviews, day)) == len(today)
    stays = sorted(
        int((after.at - view.at).total_seconds())
        for visit in visits
        for view, after in zip(visit.views, visit.views[1:], strict=False)
        if view.at.date() == after.at.date() == day
    )
    found = [row[0] for row in rows(warehouse, ods.click_stream_pageviews, day, "stay_time")]
    assert sorted(stay for stay in found if stay is not None) == stays

    sessions = Counter(visit.views[0].addr for visit in begun)
    assert dict(rows(warehouse, ads.returning_visitor, day, "visitor_id", "visits")) == {
        addr: n for addr, n in sessions.items() if n > 1
    }
    new = visitors - seen_before
    assert set(rows(warehouse, ads.new_visitor, day)) == {(addr, addr) for addr in new}
    times = {
        addr: [str(v.at) for v in views if v.addr == addr and v.at.date() <= day] for addr in visitors | seen_before
    }
    assert {row[0]: row[1:] for row in rows(warehouse, dim.visitor, day)} == {
        addr: (min(at), max(at), addr, "address") for addr, at in times.items()
    }
    returning = sum(n > 1 for n in sessions.values())
    assert rows(warehouse, ads.visitor_daily, day) == [
        (
            len(today),
            len(visitors),
            len(today) / len(visitors),
            len(new),
            returning,
            len(begun),
            len(begun) / len(sessions),
        )
    ]
    reached = reference.funnel(begun, STEPS)
    assert sorted(rows(warehouse, ads.oute_nums, day)) == [(f"step{n}", count) for n, count in enumerate(reached, 1)]
    assert sorted(rows(warehouse, ads.funnel, day)) == [
        (f"step{n + 1}", count, count / reached[0], count / reached[max(n - 1, 0)]) for n, count in enumerate(reached)
    ]


# --- made days ---

MADE = [date(2014, 3, day) for day in (1, 2, 3, 4)]


def land(config: Config, day: date, name: str, *views: tuple[str, str, str]) -> None:
    """Write (address, 'dd HH:MM:SS', page) as log lines into a day's landing folder."""
    folder = config.get(Paths).landing("weblog", day) / "hour=00/host=web7"
    folder.mkdir(parents=True, exist_ok=True)
    text = '{} - - [{}/Mar/2014:{} +0000] "GET {} HTTP/1.1" 200 1 "-" "a"\n'
    lines = [text.format(addr, at[:2], at[3:], page) for addr, at, page in views]
    (folder / name).write_text("".join(lines))


def visits_of(warehouse: Warehouse, day: date) -> list[tuple[Any, ...]]:
    return sorted(
        rows(warehouse, ods.click_stream_visit, day, "remote_addr", "inTime", "outTime", "outPage", "pageVisits")
    )


@pytest.mark.parametrize(
    "reruns",
    [
        pytest.param([MADE[:3]], id="again as a whole"),
        pytest.param([MADE[0:3:2], MADE[:3]], id="again with a hole, too", marks=pytest.mark.wide),
    ],
)
def test_visits_cross_midnights_and_belong_to_the_day_they_began(
    spark: SparkSession, config: Config, warehouse: Warehouse, reruns: list[list[date]]
) -> None:
    """Day after day as a daily DAG runs them; a robot's visit lasts for days, and each day made again is as it was."""
    robot = [
        ("robot", f"{day:02d} {hour:02d}:{minute:02d}:00", "/ping")
        for day in (1, 2, 3)
        for hour in range(24)
        for minute in (0, 30)
    ]
    config = config.with_values({"weblog.funnels": {"main": ["^/a", "^/b"], "other": ["^/b"]}})
    land(
        config,
        MADE[0],
        "1.log",
        ("owl", "01 23:40:00", "/a"),
        ("day", "01 12:00:00", "/a"),
        *[v for v in robot if v[1] < "02"],
    )
    land(
        config,
        MADE[1],
        "2.log",
        ("owl", "02 00:10:00", "/b"),
        ("owl", "02 00:41:00", "/b"),
        ("day", "02 12:00:00", "/a"),
        *[v for v in robot if "02" < v[1] < "03"],
        ("late", "01 23:59:59", "/a"),
    )
    land(
        config,
        MADE[2],
        "3.log",
        ("day", "03 12:00:00", "/a"),
        ("day", "03 12:30:00", "/b"),
        ("day", "03 13:00:01", "/b"),
        *[v for v in robot if v[1] > "03"],
    )
    first = None
    for day in MADE[:3]:
        weblog.run(spark, config, [day])
        first = first or rows(warehouse, ads.visitor_daily, MADE[0])
    assert visits_of(warehouse, MADE[0]) == [
        ("day", "2014-03-01 12:00:00", "2014-03-01 12:00:00", "/a", 1),
        ("late", "2014-03-01 23:59:59", "2014-03-01 23:59:59", "/a", 1),
        ("owl", "2014-03-01 23:40:00", "2014-03-02 00:10:00", "/b", 2),
        ("robot", "2014-03-01 00:00:00", "2014-03-03 23:30:00", "/ping", 144),
    ]
    assert visits_of(warehouse, MADE[1]) == [
        ("day", "2014-03-02 12:00:00", "2014-03-02 12:00:00", "/a", 1),
        ("owl", "2014-03-02 00:41:00", "2014-03-02 00:41:00", "/b", 1),
    ]
    assert visits_of(warehouse, MADE[2]) == [
        ("day", "2014-03-03 12:00:00", "2014-03-03 12:30:00", "/b", 2),
        ("day", "2014-03-03 13:00:01", "2014-03-03 13:00:01", "/b", 1),
    ]
    assert rows(warehouse, ads.visitor_daily, MADE[0]) == first
    steps = dict(rows(warehouse, ads.oute_nums, MADE[0]))
    assert steps == {"step1": 3, "step2": 1, "other.step1": 1}  # the owl's second page is of the next day
    assert set(rows(warehouse, dwd.weblog_request, MADE[0], "host")) == {("web7",)}
    one_by_one = everything(warehouse, MADE[:3])
    for again in reruns:
        weblog.run(spark, config, again)
        assert everything(warehouse, MADE[:3]) == one_by_one


def write_log(path: Path, *requests: tuple[str, str, str]) -> list[str]:
    """A log of (address, time with offset, URL), as the one source of a command."""
    lines = [f'{address} - - [{at}] "GET {url} HTTP/1.1" 200 10 "-" "-"' for address, at, url in requests]
    path.write_text("\n".join(lines) + "\n")
    return [str(path)]


def test_visits_are_cut_by_the_time_that_passed_and_not_by_the_clock(
    spark: SparkSession, config: Config, warehouse: Warehouse, tmp_path: Path
) -> None:
    """Berlin, 2015: no hour from 2 on 29 March; on 25 October that hour comes twice."""
    spring, autumn = date(2015, 3, 29), date(2015, 10, 25)
    source = write_log(
        tmp_path / "spring.log",
        ("a", "29/Mar/2015:01:50:00 +0100", "/1"),
        ("a", "29/Mar/2015:03:15:00 +0200", "/2"),  # 25 minutes later
        ("b", "28/Mar/2015:23:59:00 +0100", "/1"),
        ("b", "29/Mar/2015:00:20:00 +0100", "/2"),
        ("c", "29/Mar/2015:02:30:60 +0100", "/leap"),
        ("c", "29/Mar/2015:24:00:00 +0200", "/end"),
        ("c", "29/Mar/2015:12:00:00 +1960", "/nowhere"),
    )
    counts = weblog.run(spark, config, [spring - DAY, spring], source)
    assert counts["rows_quarantined"] == 3
    assert visits_of(warehouse, spring) == [("a", "2015-03-29 01:50:00", "2015-03-29 03:15:00", "/2", 2)]
    assert visits_of(warehouse, spring - DAY) == [("b", "2015-03-28 23:59:00", "2015-03-29 00:20:00", "/2", 2)]
    assert set(rows(warehouse, ods.click_stream_pageviews, spring, "request", "stay_time", "visit_step")) == {
        ("/1", 1500, 1),
        ("/2", None, 2),
        ("/2", None, 2),
    }
    source = write_log(
        tmp_path / "autumn.log",
        ("d", "25/Oct/2015:02:00:00 +0200", "/1"),
        ("d", "25/Oct/2015:02:00:00 +0100", "/2"),  # an hour later
        ("d", "25/Oct/2015:02:10:00 +0100", "/3"),
        ("e", "25/Oct/2015:02:55:00 +0200", "/1"),
        ("e", "25/Oct/2015:02:05:00 +0100", "/2"),  # ten minutes later
    )
    weblog.run(spark, config, [autumn], source)
    assert set(rows(warehouse, ods.click_stream_visit, autumn, "session", "outTime", "outPage", "pageVisits")) == {
        ("d@20151025020000+0200", "2015-10-25 02:00:00", "/1", 1),
        ("d@20151025020000+0100", "2015-10-25 02:10:00", "/3", 2),
        ("e@20151025025500+0200", "2015-10-25 02:05:00", "/2", 2),
    }
    assert rows(warehouse, ads.pv_hourly, autumn, "hour", "pvs") == [("02", 5)]


def test_days_of_a_log_are_those_of_the_declared_zone(
    spark: SparkSession, config: Config, warehouse: Warehouse, tmp_path: Path
) -> None:
    day, local = date(2015, 6, 2), config.with_values({"site.timezone": "Asia/Shanghai"})
    source = write_log(
        tmp_path / "utc.log",
        ("a", "01/Jun/2015:15:59:00 +0000", "/1"),  # 23:59 in Shanghai
        ("a", "01/Jun/2015:16:10:00 +0000", "/2"),
        ("b", "02/Jun/2015:00:10:00", "/3"),  # without an offset: in the site's zone
        ("b", "01/Jun/2015:18:20:00 +0200", "/4"),  # ten minutes after /3
    )
    weblog.run(spark, local, [day - DAY, day], source)
    assert visits_of(warehouse, day - DAY) == [("a", "2015-06-01 23:59:00", "2015-06-02 00:10:00", "/2", 2)]
    assert visits_of(warehouse, day) == [("b", "2015-06-02 00:10:00", "2015-06-02 00:20:00", "/4", 2)]


def test_a_hot_address_is_put_in_order_by_the_hour(spark: SparkSession, config: Config, warehouse: Warehouse) -> None:
    """Half of the traffic from one address: no task sorts all of it."""
    land(
        config,
        MADE[3],
        "4.log",
        *[("hot", f"04 {n // 3600:02d}:{n // 60 % 60:02d}:{n % 60:02d}", "/") for n in range(0, 86400, 30)],
    )
    weblog.run(spark, config, MADE[3:])
    assert [row[-1] for row in visits_of(warehouse, MADE[3])] == [2880]
    from etl.weblog import clickstream

    views = warehouse.read(dwd.weblog_request, MADE[3:])
    plan = clickstream.add_visits(views, warehouse.read(dws.open_visit, MADE[2:3]))._jdf.queryExecution().toString()
    sorted_by = [line for line in plan.splitlines() if "Sort [visitor#" in line]
    assert sorted_by
    assert all("hour_of" in line for line in sorted_by if "position" in line)


def test_only_the_days_asked_for_are_read(spark: SparkSession, warehouse: Warehouse) -> None:
    """Partition pruning, proved from the plans of the tables' own reads and of the analysts' SQL."""
    from etl.weblog.reports import PAGE_VIEWS, statement

    for table in [table for tables in PAGE_VIEWS for table in tables] + [
        ads.visitor_daily,
        ads.new_visitor,
        ads.funnel,
    ]:
        frame = spark.sql(statement(table), args={"first": "20140301", "last": "20140301"})
        scans = [line for line in frame._jdf.queryExecution().toString().splitlines() if "FileScan" in line]
        assert scans
        assert all("PartitionFilters: [isnotnull(datestr" in line for line in scans), table.name


def test_keys_are_in_their_dimensions_and_search_words_are_read(
    spark: SparkSession, config: Config, warehouse: Warehouse, tmp_path: Path
) -> None:
    day = date(2014, 4, 1)
    line = '1.1.1.1 - - [01/Apr/2014:09:30:00 +0000] "{}" 200 5 "{}" "{}"\n'
    googlebot = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
    firefox = "Mozilla/5.0 (Windows NT 6.1; rv:28.0) Gecko/20100101 Firefox/28.0"
    (tmp_path / "a.log").write_text(
        line.format(
            "GET /shop/cart?x=1 HTTP/1.1", "http://www.google.com.hk/search?q=big+data%20%E6%95%B0&id=1", firefox
        )
        + line.format("GET / HTTP/1.1", "http://www.baidu.com/s?ie=utf-8&wd=spark", googlebot)
        + line.format("HEAD / HTTP/1.1", "-", firefox)
        + line.format("GET /site.css HTTP/1.1", "http://www.baidu.com/s?wd=%C4%E3%BA%C3", firefox)
    )
    networks = tmp_path / "networks" / "networks.csv"
    networks.parent.mkdir()
    networks.write_text("network,area\n1.0.0.0/8,Oceania\n1.1.1.0/24,Sydney\n")
    config = config.with_values({"weblog.area_table": str(networks)})
    weblog.run(spark, config, [day], [str(tmp_path / "a.log")])
    assert rows(warehouse, dim.area, day) == [("1.1.1.1", "Sydney")]
    fact = warehouse.read(dwd.weblog_request, [day])
    joined = (
        fact.join(warehouse.read(dim.page), ["datestr", "page_key"])
        .join(warehouse.read(dim.referrer).drop("http_referer", "ref_host"), ["datestr", "referrer_key"])
        .join(warehouse.read(dim.user_agent).drop("http_user_agent"), ["datestr", "agent_key"])
        .join(warehouse.read(dim.date).select("date_key", "weekday"), "date_key")
        .join(warehouse.read(dim.time).select("time_key", "part_of_day"), "time_key")
    )
    names = [
        "method",
        "page",
        "section",
        "is_static",
        "search_engine",
        "search_words",
        "is_crawler",
        "browser",
        "os",
        "weekday",
        "part_of_day",
        "bytes",
    ]
    assert sorted(tuple(row) for row in joined.select(*names).collect()) == sorted([
        ("GET", "/shop/cart", "/shop", 0, "google", "big data 数", 0, "Firefox", "Windows", 2, "morning", 5),
        ("GET", "/", "/", 0, "baidu", "spark", 1, "Googlebot", None, 2, "morning", 5),
        ("HEAD", "/", "/", 0, None, None, 0, "Firefox", "Windows", 2, "morning", 5),
        ("GET", "/site.css", "/site.css", 1, "baidu", None, 0, "Firefox", "Windows", 2, "morning", 5),
    ], key=lambda row: tuple(map(str, row)))  # fmt: skip
    human = {tuple(row) for row in warehouse.read(ads.pv_daily, [day]).select("pvs", "pvs_human").collect()}
    assert human == {(3, 1)}
    strange = fact.withColumn("page_key", F.lit(1))
    with pytest.raises(QualityError, match=r"page_key is a dim_page.page_key' failed for 1 rows \(e\.g\. 1\); the old"):
        warehouse.write(dwd.weblog_request, strange, [day])
    assert warehouse.check(dwd.weblog_request)[dwd.weblog_request.partition_value(day)] == 4
    vacuum(warehouse, dwd.weblog_request.name, older_than_s=0)  # what earlier tests left
    warehouse.write(dwd.weblog_request, fact, [day])
    assert vacuum(warehouse, dwd.weblog_request.name, older_than_s=0) == 1  # leaves the files that three tables share
    for table in (dwd.weblog_request, ods.weblog_origin, ods.weblog_detail):
        assert warehouse.read(table, [day]).select("request").distinct().count() == 3


def test_the_queries_of_the_analysts_guide_run(spark: SparkSession, warehouse: Warehouse) -> None:
    for table in ALL.values():
        warehouse.ensure(table)
    queries = re.findall(r"```sql\n(.*?)```", (ROOT / "docs/weblog.md").read_text(), re.DOTALL)
    assert len(queries) >= 7
    for text in queries:
        assert query(spark, text).collect() is not None


def test_tables_can_be_made_in_hives_four_ways(spark: SparkSession, warehouse: Warehouse, tmp_path: Path) -> None:
    """W15: load, external with a location, insert … select, and create … as select; managed or external is told."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.csv").write_text("1,x\n2,y\n")
    text = "(a int, b string) row format delimited fields terminated by ','"
    spark.sql(f"create table way_load {text}")
    spark.sql(f"load data local inpath '{tmp_path}/data/a.csv' into table way_load")
    spark.sql(f"create external table way_external {text} location '{tmp_path}/data'")
    spark.sql("create table way_insert (a int, b string) stored as parquet")
    spark.sql("insert into way_insert select * from way_load")
    spark.sql("create table way_select stored as parquet as select * from way_external")
    for name in ("way_load", "way_external", "way_insert", "way_select"):
        assert sorted(map(tuple, spark.table(name).collect())) == [(1, "x"), (2, "y")]
    managed = Table("ads_managed", "One row per a", ads.new_visitor.columns, partition="datestr", is_managed=True)
    warehouse.write(
        managed, spark.sql("select 'x' as remote_addr, 'x' as visitor_id, '20140101' as datestr"), [date(2014, 1, 1)]
    )
    warehouse.ensure(ads.new_visitor)
    kinds = [
        spark.sql(f"describe extended {name}").where("col_name = 'Type'").collect()[0]["data_type"]
        for name in ("ads_managed", "way_external", "ads_new_visitor")
    ]
    assert kinds == ["MANAGED", "EXTERNAL", "EXTERNAL"]
    assert (managed.kind, ads.new_visitor.kind) == ("managed", "external")
