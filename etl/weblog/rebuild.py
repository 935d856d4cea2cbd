"""All that follows from the requests of some days: page views, visits, visitors, funnels and the analysts' reports."""

from collections.abc import Sequence
from datetime import date, datetime
from functools import partial
from itertools import chain

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from etl.session import run_concurrently
from etl.tables import ads, dim, dwd, dws, ods
from etl.warehouse.store import Warehouse
from etl.weblog import areas, clickstream, dimensions, funnel, reports, visitors
from etl.weblog.settings import WeblogSettings
from etl.weblog.source import DAY

Days = Sequence[date]


def rebuild(warehouse: Warehouse, settings: WeblogSettings, days: Days, views_after: DataFrame | None) -> None:
    """Replace the days' partitions of all tables that follow from dwd_weblog_request.

    Args:
        warehouse: has the requests of the days and their dimensions.
        settings: funnels and the table of areas.
        days: days that follow one another.
        views_after: page views of the day after the last, where its own tables don't have them yet.
    """
    _write_page_views(warehouse, days)
    # These write different tables; side by side they keep the cores busy.
    run_concurrently(
        partial(_rebuild_visits, warehouse, settings, days, views_after),
        partial(_rebuild_visitors, warehouse, settings, days),
        *[partial(reports.write, warehouse, days, *tables) for tables in reports.PAGE_VIEWS],
    )
    reports.write(warehouse, days, ads.visitor_daily)


def _write_page_views(warehouse: Warehouse, days: Days) -> None:
    views = (
        warehouse.read(dwd.weblog_request, days)
        .where(F.col("valid") == "true")
        .transform(dimensions.flag_humans, warehouse.read(dim.user_agent, days))
        .transform(clickstream.add_visits, _open_before(warehouse, days))
    )
    # Not rebalanced: the shuffle by visitor and hour has made even parts.
    warehouse.write(ods.click_stream_pageviews, views, days, rebalance=False)


def _open_before(warehouse: Warehouse, days: Days) -> DataFrame:
    return warehouse.read(dws.open_visit, [days[0] - DAY])


# --- visits and funnels ---


def _rebuild_visits(warehouse: Warehouse, settings: WeblogSettings, days: Days, views_after: DataFrame | None) -> None:
    """Write the visits of the days, update those that began before them and went on, and what follows from visits."""
    views = warehouse.read(ods.click_stream_pageviews, days)
    visits = views.transform(clickstream.aggregate_visits, _open_before(warehouse, days))
    # As of the end of each day, and before later views extend the visits: the next day starts from here.
    open_visits = clickstream.find_open_visits(views, visits, days)
    warehouse.write(dws.open_visit, open_visits, days, rebalance=False)
    later_views = _later_views(warehouse, days[-1], warehouse.read(dws.open_visit, days[-1:]), views_after)
    if later_views is not None:
        visits = visits.transform(clickstream.extend_visits, later_views)
    first = ods.click_stream_visit.partition_value(days[0])
    _update_earlier_visits(warehouse, visits.where(F.col("datestr") < first))
    warehouse.write(ods.click_stream_visit, visits.where(F.col("datestr") >= first), days, rebalance=False)
    reports.write(warehouse, days, ads.returning_visitor)
    if settings.funnels:
        # Up to the day after: a visit of the last day may reach a step after midnight.
        _rebuild_funnels(warehouse, days, days[-1] + DAY, settings)
        # Visits of earlier days that reached a step on these days.
        is_step = funnel.matches_any(chain.from_iterable(settings.funnels.values()))
        continued = views.where((clickstream.visit_day() < first) & is_step)
        for row in sorted(continued.select(clickstream.visit_day()).distinct().collect()):
            _rebuild_funnels(warehouse, [day_of_datestr(row[0])], days[-1], settings)


def _update_earlier_visits(warehouse: Warehouse, visits: DataFrame) -> None:
    """Replace visits of earlier days by `visits`, which went on; other visits of those days stay."""
    datestrs = sorted(row[0] for row in visits.select("datestr").distinct().collect())
    days = [day_of_datestr(datestr) for datestr in datestrs]
    if days:
        others = warehouse.read(ods.click_stream_visit, days).join(visits, on="session", how="left_anti")
        warehouse.write(ods.click_stream_visit, visits.unionByName(others), days, rebalance=False)


def _later_views(
    warehouse: Warehouse, day: date, open_visits: DataFrame, views_after: DataFrame | None
) -> DataFrame | None:
    """Page views after `day` of the visits open at its end."""
    if views_after is not None:
        # Requests that have no visits yet: of these visitors only, so that they are few to put in order.
        visitors_open = F.broadcast(open_visits.select(clickstream.visitor().alias("visitor")))
        return (
            views_after.withColumn("visitor", clickstream.visitor())
            .join(visitors_open, on="visitor", how="left_semi")
            .drop("visitor")
            .transform(clickstream.add_visits, open_visits)
            .join(open_visits, on="session", how="left_semi")
        )
    day_after = day + DAY
    if not warehouse.has_partition(ods.click_stream_pageviews, day_after):
        return None
    sessions = F.broadcast(open_visits.select("session"))
    # A visit over two midnights is rare: only then are all later days read.
    goes_further = warehouse.read(dws.open_visit, [day_after]).join(sessions, on="session", how="left_semi")
    is_later = F.col("datestr") > ods.click_stream_pageviews.partition_value(day)
    views = warehouse.read(ods.click_stream_pageviews, None if goes_further.limit(1).count() else [day_after])
    return views.where(is_later).join(sessions, on="session", how="left_semi")


def _rebuild_funnels(warehouse: Warehouse, days: Days, until: date, settings: WeblogSettings) -> None:
    """Funnels of visits begun on `days`, with their views up to `until`."""
    views = warehouse.read(ods.click_stream_pageviews, [days[0] + n * DAY for n in range((until - days[0]).days + 1)])
    datestrs = [ads.oute_nums.partition_value(day) for day in days]
    counts = funnel.count_visitors(warehouse.spark, views, settings.funnels, datestrs)
    warehouse.write(ads.oute_nums, counts, days, rebalance=False)
    reports.write(warehouse, days, ads.funnel)


# --- visitors ---


def _rebuild_visitors(warehouse: Warehouse, settings: WeblogSettings, days: Days) -> None:
    datestrs = [dim.visitor.partition_value(day) for day in days]
    before = visitors.newest_before(warehouse, days[0])
    views = warehouse.read(ods.click_stream_pageviews, days)
    # From snapshot to snapshot, so that a day reads one partition and not all of the past.
    history = visitors.history(warehouse.spark, views, before, datestrs, settings.visitor_key)
    warehouse.write(dim.visitor, history, days, rebalance=False)
    reports.write(warehouse, days, ads.new_visitor)
    if settings.area_table is not None:
        located = areas.locate_visitors(views, settings.area_table.resolve())
        warehouse.write(dim.area, located, days, rebalance=False)


def day_of_datestr(datestr: str) -> date:
    """The day of a web-log table's partition, from its value such as `20130918`."""
    return datetime.strptime(datestr, "%Y%m%d").date()
