"""The rules of visits and funnels (W5, W10) on random page views, against the same rules in plain Python."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import chain
from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from etl.tables import dws, ods
from etl.weblog import clickstream, funnel

DAYS = [date(2026, 3, 1), date(2026, 3, 2), date(2026, 3, 3)]
VIEWS = (
    "remote_addr string, time_local string, file string, position int, request string, http_referer string, "
    "datestr string, requested_at string, visitor_id string, site string"
)
VISITS = [*ods.click_stream_visit.column_names, "datestr"]


@dataclass(frozen=True)
class View:
    """A page view, in the order of its visitor's views when sorted."""

    addr: str
    at: datetime
    file: str
    position: int
    request: str
    referer: str
    user: str = ""
    site: str | None = None

    @property
    def visitor(self) -> tuple[str, str]:
        return self.user or self.addr, self.site or ""


def random_views() -> list[View]:
    """Views of nine visitors on three days, most of them around the half hour that ends a visit, some at once.

    The last two are one user, of whom each view has another address, on two sites.
    """
    rng = np.random.default_rng(8)
    gaps = [0, 1, 40, 1200, 1799, 1800, 1801, 3600, 20_000]
    views = []
    for visitor in range(9):
        at = datetime(2026, 3, 1, 6 + visitor, 59, 30)
        # The last three are mostly quick, so that their visits last for hours and cross midnights.
        weights = np.array([2, 2, 3, 3, 2, 3, 2, 1, 2] if visitor < 6 else [1, 1, 5, 20, 20, 20, 0.5, 0, 0], float)
        while at < datetime(2026, 3, 4):
            number = len(views)
            page, referer = f"/{'abc'[rng.integers(3)]}?{number}", f"http://r/{number}"
            place, user = (f"f{rng.integers(2)}", int(rng.integers(100))), ("bob@x.org", f"{visitor}.x.org")
            addr, names = (f"v{visitor}", ()) if visitor < 7 else (f"v{number}", user)
            views.append(View(addr, at, *place, page, referer, *names))
            at += timedelta(seconds=int(rng.choice(gaps, p=weights / weights.sum())))
    return views


def visits_of(views: Sequence[View]) -> list[list[View]]:
    """Each visit's views, in order."""
    visits: list[list[View]] = []
    for view in sorted(views, key=lambda view: (view.visitor, view.at, view.file, view.position)):
        last = visits[-1][-1] if visits else None
        if last is None or last.visitor != view.visitor or view.at - last.at > timedelta(minutes=30):
            visits.append([])
        visits[-1].append(view)
    return visits


def session_of(visit: Sequence[View]) -> str:
    return "@".join([*filter(None, visit[0].visitor), f"{visit[0].at:%Y%m%d%H%M%S}"])


def stays_of(visit: Sequence[View]) -> list[int | None]:
    """Seconds of each view until the next one of the visit, up to midnight."""
    return [
        int((after.at - view.at).total_seconds()) if after and view.at.date() == after.at.date() else None
        for view, after in zip(visit, [*visit[1:], None], strict=True)
    ]


def visit_row(visit: Sequence[View]) -> tuple[Any, ...]:
    first, last = visit[0], visit[-1]
    times = (str(first.at), str(last.at))
    pages = (first.request, last.request, first.referer)
    return (
        session_of(visit),
        first.addr,
        *times,
        *pages,
        len(visit),
        first.user or first.addr,
        first.site,
        f"{first.at:%Y%m%d}",
    )


def open_row(visit: Sequence[View], day: date) -> tuple[Any, ...] | None:
    """dws_open_visit of a visit at the end of a day; None when no view in the last half hour leaves it open."""
    views = [view for view in visit if view.at.date() <= day]
    if not views or views[-1].at < datetime.combine(day, datetime.min.time()) + timedelta(hours=23, minutes=30):
        return None
    first, last = views[0], views[-1]
    start = (session_of(visit), first.addr, str(first.at), first.request, first.referer)
    end = (str(last.at), last.request, len(views), str(last.at))  # the log's clock is UTC
    return *start, *end, first.user or first.addr, first.site


def frame_of(spark: SparkSession, views: Sequence[View]) -> DataFrame:
    rows = [
        # Without a user as in rows from before there were such columns.
        (
            v.addr,
            str(v.at),
            v.file,
            v.position,
            v.request,
            v.referer,
            f"{v.at:%Y%m%d}",
            str(v.at),
            v.user or None,
            v.site,
        )
        for v in views
    ]
    # Cast by Spark, in the session's zone, UTC: Python's times would be of the machine's.
    return (
        spark.createDataFrame(rows, VIEWS)
        .withColumn("requested_at", F.col("requested_at").cast("timestamp"))
        .coalesce(1)
    )


def open_frame(spark: SparkSession, rows: Sequence[tuple[Any, ...]]) -> DataFrame:
    schema = dws.open_visit.schema_text.replace("timestamp", "string")
    return spark.createDataFrame(list(rows), schema).withColumn("out_at", F.col("out_at").cast("timestamp")).coalesce(1)


def sorted_rows(frame: DataFrame, *names: str) -> list[tuple[Any, ...]]:
    columns = [F.col(name).cast("string") if name == "out_at" else F.col(name) for name in names]
    return sorted((tuple(row) for row in frame.select(*columns).collect()), key=str)


@pytest.fixture(scope="module")
def views() -> list[View]:
    return random_views()


def test_a_visit_is_a_run_of_views_without_a_gap_of_over_half_an_hour(spark: SparkSession, views: list[View]) -> None:
    visits = visits_of(views)
    no_visits = open_frame(spark, [])
    numbered = clickstream.add_visits(frame_of(spark, views), no_visits).persist()
    expected_steps = [
        (view.request, session_of(visit), step, stay)
        for visit in visits
        for step, (view, stay) in enumerate(zip(visit, stays_of(visit), strict=True), 1)
    ]
    assert sorted_rows(numbered, "request", "session", "visit_step", "stay_time") == sorted(expected_steps, key=str)
    assert sorted_rows(clickstream.aggregate_visits(numbered, no_visits), *VISITS) == sorted(
        map(visit_row, visits), key=str
    )
    numbered.unpersist()


def test_a_visit_goes_on_from_what_the_day_before_left_open(spark: SparkSession, views: list[View]) -> None:
    """Day by day, each from its own views and the visits open before it alone; and each brings older visits up to date."""
    expected = visits_of(views)
    assert sum(visit[0].at.date() < visit[-1].at.date() for visit in expected) > 3
    assert any((visit[-1].at.date() - visit[0].at.date()).days == 2 for visit in expected)
    before, rows = open_frame(spark, []), {}
    for day in DAYS:
        of_day = frame_of(spark, [view for view in views if view.at.date() == day])
        numbered = clickstream.add_visits(of_day, before).persist()
        visits = clickstream.aggregate_visits(numbered, before).persist()
        older = spark.createDataFrame(list(rows.values()), visits.schema)
        extended = {row["session"]: tuple(row) for row in clickstream.extend_visits(older, numbered).collect()}
        of_day_rows = {row["session"]: tuple(row) for row in visits.select(*VISITS).collect()}
        # The other way to bring visits up to date: what went on is the same, all else stays.
        assert extended == {name: of_day_rows.get(name, row) for name, row in rows.items()}
        rows |= of_day_rows
        open_at_end = clickstream.find_open_visits(numbered, visits, [day])
        expected_open = [row for visit in expected if (row := open_row(visit, day))]
        open_rows = sorted_rows(open_at_end, *dws.open_visit.column_names)
        assert open_rows == sorted(expected_open, key=str)
        before = open_frame(spark, open_rows)
        numbered.unpersist()
        visits.unpersist()
    assert sorted(rows.values(), key=str) == sorted(map(visit_row, expected), key=str)


def test_the_visits_open_at_the_end_of_each_of_several_days(spark: SparkSession, views: list[View]) -> None:
    no_visits = open_frame(spark, [])
    numbered = clickstream.add_visits(frame_of(spark, views), no_visits).persist()
    visits = clickstream.aggregate_visits(numbered, no_visits)
    open_visits = clickstream.find_open_visits(numbered, visits, DAYS[1:])
    expected = [
        (*row, f"{day:%Y%m%d}") for day in DAYS[1:] for visit in visits_of(views) if (row := open_row(visit, day))
    ]
    assert sorted_rows(open_visits, *dws.open_visit.column_names, "datestr") == sorted(expected, key=str)
    numbered.unpersist()


FUNNELS = {
    "main": ["^/a", "^/b|^/x", "^/c"],
    "short": ["^/c", "^/b"],
    "none": ["^/nowhere", "^/a"],
    "twice": ["^/a", "^/a"],
}


def test_a_funnel_counts_the_visitors_who_came_so_far_in_a_visit_begun_on_the_day(spark: SparkSession) -> None:
    views = [
        # "ann" comes to the end in her second visit, "bob" in the wrong order, "cem" over midnight, "dora" not far.
        *visit_from("ann", datetime(2026, 3, 1, 9), "/b", "/a", "/a"),
        *visit_from("ann", datetime(2026, 3, 1, 19), "/a", "/z", "/b", "/b", "/c"),
        *visit_from("bob", datetime(2026, 3, 1, 9), "/c", "/b", "/a"),
        *visit_from("cem", datetime(2026, 3, 1, 23, 58), "/a", "/x", "/c", "/b"),
        *visit_from("dora", datetime(2026, 3, 2, 9), "/a", "/q/a", "/z"),
    ]
    numbered = clickstream.add_visits(frame_of(spark, views), open_frame(spark, [])).persist()
    counts = funnel.count_visitors(spark, numbered, FUNNELS, ["20260301", "20260302"])
    assert sorted_rows(counts, "datestr", "step", "numbs") == [
        ("20260301", "none.step1", 0),
        ("20260301", "none.step2", 0),
        ("20260301", "short.step1", 3),
        ("20260301", "short.step2", 2),
        ("20260301", "step1", 3),
        ("20260301", "step2", 2),
        ("20260301", "step3", 2),
        ("20260301", "twice.step1", 3),
        ("20260301", "twice.step2", 1),  # one view is never two steps
        ("20260302", "none.step1", 0),
        ("20260302", "none.step2", 0),
        ("20260302", "short.step1", 0),
        ("20260302", "short.step2", 0),
        ("20260302", "step1", 1),
        ("20260302", "step2", 0),
        ("20260302", "step3", 0),
        ("20260302", "twice.step1", 1),
        ("20260302", "twice.step2", 0),
    ]
    of_a_day = funnel.count_visitors(spark, numbered, {"main": FUNNELS["main"]}, ["20260302"])
    assert sorted_rows(of_a_day, "datestr", "step", "numbs") == [
        ("20260302", "step1", 1),
        ("20260302", "step2", 0),
        ("20260302", "step3", 0),
    ]
    matching = numbered.where(funnel.matches_any(chain.from_iterable(FUNNELS.values()))).select("request").distinct()
    assert {row[0] for row in matching.collect()} == {"/a", "/b", "/c", "/x"}
    numbered.unpersist()


def visit_from(addr: str, at: datetime, *pages: str) -> list[View]:
    """A view a minute."""
    return [View(addr, at + timedelta(minutes=n), "f", n, page, "-") for n, page in enumerate(pages)]
