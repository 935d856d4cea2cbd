"""Loads of many days at once: the same rows as day by day, in a number of Spark jobs that does not grow with the days."""

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pyspark.sql import SparkSession

from conf import Config
from etl.tables import ads, dim, dws, ods
from etl.warehouse.store import Warehouse
from etl.weblog import job as weblog
from etl.weblog.source import DAY

TABLES = (
    ods.click_stream_pageviews,
    ods.click_stream_visit,
    dws.open_visit,
    dim.visitor,
    ads.pv_daily,
    ads.page_top10,
    ads.new_visitor,
    ads.returning_visitor,
    ads.visitor_daily,
    ads.funnel,
)


@pytest.fixture
def warehouse(spark: SparkSession, config: Config) -> Warehouse:
    return Warehouse(spark, config)


def write_log(path: Path, views: Iterable[tuple[str, datetime, str]]) -> None:
    path.write_text(
        "".join(
            f'{address} - - [{time:%d/%b/%Y:%H:%M:%S} +0000] "GET {page} HTTP/1.1" 200 10 "-" "Firefox"\n'
            for address, time, page in views
        )
    )


def rows_by_table(warehouse: Warehouse, days: list[date]) -> dict[str, list[tuple[Any, ...]]]:
    return {
        table.name: sorted(tuple(map(str, row)) for row in warehouse.read(table, days).collect()) for table in TABLES
    }


@pytest.mark.wide  # visits over midnights, loaded in any order, are in test_weblog_tables.py
def test_days_with_holes_have_the_rows_of_day_by_day(
    spark: SparkSession, config: Config, warehouse: Warehouse, tmp_path: Path
) -> None:
    """A visit goes on from the first day over all of the second, which is not loaded at first, into the third."""
    config = config.with_values({"weblog.funnels": {"main": ["^/cart", "^/paid"]}})
    first = datetime(2031, 3, 1)
    days = [first.date() + n * DAY for n in range(3)]
    long_visit = [first + timedelta(hours=23, minutes=20 + 25 * n) for n in range(63)]
    assert long_visit[-1].date() == days[2]
    views = [("10.1.0.1", time, "/paid" if time == long_visit[-1] else "/cart") for time in long_visit]
    views += [("10.1.0.2", first + timedelta(hours=23, minutes=55 + 10 * n), f"/{n}") for n in range(2)]
    views += [("10.1.0.3", first + timedelta(days=n, hours=12), "/cart") for n in (0, 2)]
    Random(5).shuffle(views)
    log = tmp_path / "access.log"
    write_log(log, views)
    around_hole = [days[0], days[2]]

    for day in around_hole:
        weblog.run(spark, config, [day], [str(log)])
    day_by_day = rows_by_table(warehouse, days)
    assert len(day_by_day[ods.click_stream_visit.name]) > 2
    weblog.run(spark, config, around_hole, [str(log)])
    assert rows_by_table(warehouse, days) == day_by_day

    for day in days[1:]:
        weblog.run(spark, config, [day], [str(log)])
    with_second = rows_by_table(warehouse, days)
    assert with_second != day_by_day
    weblog.run(spark, config, around_hole, [str(log)])
    assert rows_by_table(warehouse, days) == with_second
    # The day on which the visit began counts its last step, on the third day.
    assert (str(days[0]).replace("-", ""), "1") in {
        (row["datestr"], str(row["numbs"]))
        for row in warehouse.read(ads.oute_nums, days).where("step = 'step2'").collect()
    }


def test_more_days_take_no_more_jobs(spark: SparkSession, config: Config, tmp_path: Path) -> None:
    counts, scheduler = {}, spark._jsc.sc().dagScheduler()  # the status tracker forgets old jobs
    few, many = 33, 47  # over 32 folders are listed by a job
    for year, num_days in ((2032, few), (2034, many)):
        days = [date(year, 1, 1) + n * 5 * DAY for n in range(num_days)]
        log = tmp_path / f"{num_days}.log"
        write_log(log, [("10.2.0.1", datetime(day.year, day.month, day.day, 9), "/") for day in days])
        before = scheduler.numTotalJobs()
        weblog.run(spark, config, [], [str(log)])
        counts[num_days] = scheduler.numTotalJobs() - before
    assert counts[many] <= counts[few] + 5, counts
