"""All that follows from the requests of some days: page views, visits, visitors, funnels and the analysts' reports."""

from collections.abc import Iterator, Sequence
from datetime import date
from functools import partial
from itertools import chain

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from etl.session import run_concurrently
from etl.table import any_of
from etl.tables import ads, dim, dwd, dws, ods
from etl.warehouse.store import Warehouse
from etl.weblog import areas, clickstream, dimensions, funnel, reports, visitors
from etl.weblog.settings import WeblogSettings
from etl.weblog.source import DAY, adjacent_days, day_of_datestr

Days = Sequence[date]


def rebuild(warehouse: Warehouse, settings: WeblogSettings, days: Days, views_after: DataFrame | None) -> None:
    """Replace the days' partitions of all tables that follow from dwd_weblog_request.

    Args:
        warehouse: has the requests of the days and their dimensions.
        settings: funnels and the table of areas.
        days: the days, in order; between them may be others, which stay as they are.
        views_after: page views of days after one of them, where their own tables don't have them yet.
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
    """Visits that were open when one of the days began, unless the day before is among the days, too."""
    return warehouse.read(dws.open_visit, adjacent_days(days, -DAY))


# --- visits and funnels ---


def _rebuild_visits(warehouse: Warehouse, settings: WeblogSettings, days: Days, views_after: DataFrame | None) -> None:
    """Write the visits of the days, update those that began before them and went on, and what follows from visits."""
    views = warehouse.read(ods.click_stream_pageviews, days)
    visits = views.transform(clickstream.aggregate_visits, _open_before(warehouse, days))
    # As of the end of each day, and before later views extend the visits: the next day starts from here.
    open_visits = clickstream.find_open_visits(views, visits, days)
    warehouse.write(dws.open_visit, open_visits, days, rebalance=False)
    for later_views in _later_views(warehouse, days, views_after):
        visits = visits.transform(clickstream.extend_visits, later_views)
    is_of_days = F.expr(any_of("datestr", [ods.click_stream_visit.partition_value(day) for day in days]))
    # No visit comes from a day before, where that has no partition: nothing to look for.
    has_day_before = bool(warehouse.written_days(dws.open_visit, adjacent_days(days, -DAY)))
    earlier_days = _update_earlier_visits(warehouse, visits.where(~is_of_days)) if has_day_before else []
    warehouse.write(ods.click_stream_visit, visits.where(is_of_days), days, rebalance=False)
    reports.write(warehouse, days, ads.returning_visitor)
    if settings.funnels:
        # With the days after: a visit of a last day may reach a step after midnight.
        _rebuild_funnels(warehouse, days, [*days, *adjacent_days(days, DAY)], settings)
        if earlier_days:
            _rebuild_earlier_funnels(warehouse, views, earlier_days, days, settings)


def _update_earlier_visits(warehouse: Warehouse, visits: DataFrame) -> list[date]:
    """Replace visits of earlier days by `visits`, which went on; other visits of those days stay. Returns the days."""
    datestrs = sorted(row[0] for row in visits.select("datestr").distinct().collect())
    days = [day_of_datestr(datestr) for datestr in datestrs]
    if days:
        others = warehouse.read(ods.click_stream_visit, days).join(visits, on="session", how="left_anti")
        warehouse.write(ods.click_stream_visit, visits.unionByName(others), days, rebalance=False)
    return days


def _later_views(warehouse: Warehouse, days: Days, views_after: DataFrame | None) -> Iterator[DataFrame]:
    """Page views of the visits open at the end of a day that is the last before a day not among `days`."""
    days_after = adjacent_days(days, DAY)
    open_visits = warehouse.read(dws.open_visit, [day - DAY for day in days_after])
    if views_after is not None:
        # Requests that have no visits yet: of these visitors only, so that they are few to put in order.
        visitors_open = F.broadcast(open_visits.select(clickstream.visitor().alias("visitor")))
        yield (
            views_after.withColumn("visitor", clickstream.visitor())
            .join(visitors_open, on="visitor", how="left_semi")
            .drop("visitor")
            .transform(clickstream.add_visits, open_visits)
            .join(open_visits, on="session", how="left_semi")
        )
    if days_after := warehouse.written_days(ods.click_stream_pageviews, days_after):
        sessions = F.broadcast(open_visits.select("session"))
        # A visit over two midnights is rare: only then are all later days read.
        goes_further = warehouse.read(dws.open_visit, days_after).join(sessions, on="session", how="left_semi")
        is_later = F.col("datestr") >= ods.click_stream_pageviews.partition_value(days_after[0])
        views = warehouse.read(ods.click_stream_pageviews, None if goes_further.limit(1).count() else days_after)
        yield views.where(is_later).join(sessions, on="session", how="left_semi")


def _rebuild_earlier_funnels(
    warehouse: Warehouse, views: DataFrame, earlier_days: Days, days: Days, settings: WeblogSettings
) -> None:
    """Funnels of the earlier days whose visits reached a step in `views` of `days`."""
    is_earlier = clickstream.visit_day().isin([ads.oute_nums.partition_value(day) for day in earlier_days])
    is_step = funnel.matches_any(chain.from_iterable(settings.funnels.values()))
    rows = views.where(is_earlier & is_step).select(clickstream.visit_day()).distinct().collect()
    continued_days = sorted(day_of_datestr(row[0]) for row in rows)
    if continued_days:
        first_days = [day for day in days if day - DAY not in set(days)]
        # From the day of the visit to those of `days` that follow it.
        between = {
            day + n * DAY for day in continued_days for n in range((min(f for f in first_days if f > day) - day).days)
        }
        _rebuild_funnels(warehouse, continued_days, sorted(between.union(days)), settings)


def _rebuild_funnels(warehouse: Warehouse, days: Days, days_of_views: Days, settings: WeblogSettings) -> None:
    """Funnels of visits begun on `days`, with their views of `days_of_views`."""
    views = warehouse.read(ods.click_stream_pageviews, days_of_views)
    datestrs = [ads.oute_nums.partition_value(day) for day in days]
    counts = funnel.count_visitors(warehouse.spark, views, settings.funnels, datestrs)
    warehouse.write(ads.oute_nums, counts, days, rebalance=False)
    reports.write(warehouse, days, ads.funnel)


# --- visitors ---


def _rebuild_visitors(warehouse: Warehouse, settings: WeblogSettings, days: Days) -> None:
    datestrs = [dim.visitor.partition_value(day) for day in days]
    views = warehouse.read(ods.click_stream_pageviews, days)
    # From snapshot to snapshot, so that a day reads one partition and not all of the past.
    snapshots = visitors.snapshots_before(warehouse, datestrs)
    before = warehouse.read(dim.visitor, [day_of_datestr(value) for value in snapshots])
    history = visitors.history(warehouse.spark, views, before, snapshots, datestrs, settings.visitor_key)
    warehouse.write(dim.visitor, history, days, rebalance=False)
    reports.write(warehouse, days, ads.new_visitor)
    if settings.area_table is not None:
        located = areas.locate_visitors(views, settings.area_table.resolve())
        warehouse.write(dim.area, located, days, rebalance=False)
