"""Web logs: lines -> requests with their dimensions -> visits -> the analysts' tables; refused lines to ods_quarantine.

millrace etl weblog --date 2013-09-18 --source access.log
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from functools import partial

from py4j.protocol import Py4JJavaError
from pyspark.sql import Column, DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

from conf import Config
from etl.session import SPARK_ERRORS, run_concurrently
from etl.sources.lines import corrupt_file_error, read_lines
from etl.stage import Counts, stage_run, total_counts
from etl.tables import ads, dim, dwd, dws, ods
from etl.warehouse import quarantine
from etl.warehouse.store import Warehouse
from etl.weblog import areas, clickstream, dimensions, funnel, reports, visitors
from etl.weblog.settings import WeblogSettings
from etl.weblog.source import Lines, find_files, lines_of, requests

log = logging.getLogger(__name__)

DAY = timedelta(days=1)
Days = Sequence[date]


def run(spark: SparkSession, config: Config, days: Days, sources: Sequence[str] = ()) -> dict[str, int]:
    """Load the days' logs, from the landing zone or from `sources`, and rebuild the tables that follow from them.

    Without `days`, all days found in `sources`. Lines of other days are counted (`rows_other_date`), not loaded.
    """
    settings, warehouse = config.get(WeblogSettings), Warehouse(spark, config)
    if settings.area_table is not None:
        areas.networks(str(settings.area_table.resolve()))  # a bad table is told before the work
    with _explained():
        days = days or _days_in(read_lines(spark, find_files(config, days, sources)), settings)
    with stage_run(warehouse, "weblog", days) as counts:
        with _explained():
            lines = lines_of(spark, config, days, sources)
            _load_requests(warehouse, lines, settings, days, counts)
        for run_of_days in _without_holes(days):
            with _explained():
                tail = _page_views_after(warehouse, lines, settings, run_of_days, counts)
            _rebuild(warehouse, settings, run_of_days, tail)
    return total_counts(counts)


def _rebuild(warehouse: Warehouse, settings: WeblogSettings, days: Days, tail: DataFrame | None) -> None:
    """All that follows from the requests of some days in a row."""
    _write_page_views(warehouse, days)
    run_concurrently(
        partial(_rebuild_visits, warehouse, settings, days, tail),
        partial(_rebuild_visitors, warehouse, settings, days),
        *[partial(reports.write, warehouse, days, *tables) for tables in reports.PAGE_VIEWS],
    )
    reports.write(warehouse, days, ads.visitor_daily)


def _without_holes(days: Days) -> list[list[date]]:
    """Days that follow one another, together."""
    runs: list[list[date]] = []
    for day in days:
        if runs and day - runs[-1][-1] == DAY:
            runs[-1].append(day)
        else:
            runs.append([day])
    return runs


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except SPARK_ERRORS as error:
        raise corrupt_file_error(error) or error from None


def _days_in(lines: DataFrame, settings: WeblogSettings) -> list[date]:
    """The dates of all lines that can be read; today when there is none, so that they are accounted for."""
    read = requests(lines, settings, [date.today()]).where("reason is null")
    found = sorted(row[0] for row in read.select("datestr").distinct().collect())
    return [_day_of(text) for text in found] or [date.today()]


# --- requests and their dimensions ---


def _load_requests(
    warehouse: Warehouse, lines: Lines, settings: WeblogSettings, days: Days, counts: dict[date, Counts]
) -> None:
    wanted = [dwd.weblog_request.partition_value(day) for day in days]
    own = lines.own.withColumn("is_own", F.lit(True))
    every = own if lines.near is None else own.unionByName(lines.near.withColumn("is_own", F.lit(False)))
    parsed = requests(every, settings, days)
    is_read, is_own = F.col("reason").isNull(), F.col("is_own")
    is_wanted = is_read & F.col("datestr").isin(wanted)
    # Lines of the neighbours' folders are theirs to account for, but those that belong to these days.
    tally = [
        F.count_if(is_own | is_wanted).alias("lines"),
        F.count_if(is_own & is_read & ~is_wanted).alias("other"),
        F.count_if(is_own & ~is_read).alias("refused"),
    ]
    seen = Observation()
    _warn_of_replaced_files(warehouse, every, days)
    warehouse.write(
        dwd.weblog_request,
        parsed.observe(seen, *tally).where(is_wanted),
        days,
        rebalance=False,
        before_checks=lambda rows: _write_dimensions(warehouse, rows, settings, days),
    )
    told = _observed(seen, parsed, tally)
    refused = parsed.where(~is_read & is_own) if told["refused"] else parsed.limit(0)
    refused_per_day = quarantine.replace(warehouse, "weblog", lines.own, refused, days)
    per_day = _valid_and_invalid(warehouse, days)
    for day, count in counts.items():
        count.rows_out, count.rows_invalid = per_day.get(ods.weblog_origin.partition_value(day), (0, 0))
        count.rows_quarantined = refused_per_day[day]
        count.rows_in = count.rows_out + count.rows_invalid + count.rows_quarantined
    counts[days[0]].rows_other_date = told["other"]
    loaded = sum(count.rows_in for count in counts.values())
    if told["lines"] != loaded + told["other"]:
        raise RuntimeError(f"weblog: {told['lines']} lines read, {loaded} loaded, {told['other']} of other days")


def _observed(seen: Observation, parsed: DataFrame, tally: list[Column]) -> dict[str, int]:
    """What was counted while the rows were written.

    Where no line was accepted Spark drops the observing node with the empty plan; then they are counted by themselves.
    """
    try:
        found = seen.get
    except Py4JJavaError:
        found = parsed.agg(*tally).collect()[0].asDict()
    return {name: int(value) for name, value in found.items()}


def _warn_of_replaced_files(warehouse: Warehouse, lines: DataFrame, days: Days) -> None:
    """A day is made from the files of one command: say so when others had made it."""
    given = {file.removeprefix("file://") for file in lines.inputFiles()}
    before = warehouse.read(dwd.weblog_request, days).select("file").distinct()
    gone = [row["file"] for row in before.limit(100).collect() if row["file"].removeprefix("file://") not in given]
    if gone:
        log.warning(
            "%s: rows of %s are replaced; to keep them, name all files of a day in one command",
            days[0] if len(days) == 1 else f"{days[0]}..{days[-1]}",
            ", ".join(gone[:3]) + (f" and {len(gone) - 3} more" if len(gone) > 3 else ""),
        )


def _write_dimensions(warehouse: Warehouse, rows: DataFrame, settings: WeblogSettings, days: Days) -> None:
    """Before the fact's checks, which ask that every key be in its dimension."""
    spark = warehouse.spark
    if not warehouse.has_partition(dim.time, days[0]):
        warehouse.write(dim.time, dim.time.with_partition(dimensions.minutes(spark), days[0]), days[:1])
    calendar = dimensions.calendar(spark, settings.first_day, settings.last_day)
    if not warehouse.has_partition(dim.date, days[0]) or warehouse.read(dim.date).count() != calendar.count():
        warehouse.write(dim.date, dim.date.with_partition(calendar, days[0]), days[:1])
    made = {dim.page: dimensions.pages, dim.referrer: dimensions.referrers, dim.user_agent: dimensions.user_agents}
    run_concurrently(
        *[partial(warehouse.write, table, make(rows), days, rebalance=False) for table, make in made.items()]
    )


def _valid_and_invalid(warehouse: Warehouse, days: Days) -> dict[str, tuple[int, int]]:
    rows = warehouse.read(dwd.weblog_request, days).groupBy("datestr")
    counted = rows.agg(
        F.count_if(F.col("valid") == "true").alias("out"), F.count_if(F.col("valid") != "true").alias("invalid")
    )
    return {row["datestr"]: (row["out"], row["invalid"]) for row in counted.collect()}


# --- visits ---


def _page_views_after(
    warehouse: Warehouse, lines: Lines, settings: WeblogSettings, days: Days, counts: dict[date, Counts]
) -> DataFrame | None:
    """Page views of the day after the last, which visits may go on with: from its tables, or from the lines at hand."""
    following = days[-1] + DAY
    if warehouse.has_partition(ods.click_stream_pageviews, following):
        return None
    if lines.near is None and not sum(count.rows_other_date for count in counts.values()):
        return None
    datestr = dwd.weblog_request.partition_value(following)
    parsed = requests(lines.after, settings, days)
    return parsed.where(F.col("reason").isNull() & (F.col("valid") == "true") & (F.col("datestr") == datestr))


def _write_page_views(warehouse: Warehouse, days: Days) -> None:
    views = warehouse.read(dwd.weblog_request, days).where(F.col("valid") == "true")
    agents = warehouse.read(dim.user_agent, days)
    told = views.transform(lambda rows: dimensions.human(rows, agents))
    placed = clickstream.with_visits(told, _open_before(warehouse, days))
    warehouse.write(ods.click_stream_pageviews, placed, days, rebalance=False)


def _open_before(warehouse: Warehouse, days: Days) -> DataFrame:
    return warehouse.read(dws.open_visit, [days[0] - DAY])


def _rebuild_visits(warehouse: Warehouse, settings: WeblogSettings, days: Days, tail: DataFrame | None) -> None:
    """Write the visits of the days, bring up to date those begun before that went on, and what is made of them."""
    views = warehouse.read(ods.click_stream_pageviews, days)
    made = clickstream.visits(views, _open_before(warehouse, days))
    warehouse.write(dws.open_visit, clickstream.still_open(views, made, days), days, rebalance=False)
    later = _later_views(warehouse, days[-1], warehouse.read(dws.open_visit, days[-1:]), tail)
    if later is not None:
        made = clickstream.carried_on(made, later)

    first = ods.click_stream_visit.partition_value(days[0])
    begun_before = made.where(F.col("datestr") < first)
    values = sorted(row[0] for row in begun_before.select("datestr").distinct().collect())
    earlier = [_day_of(value) for value in values]
    if earlier:
        old = warehouse.read(ods.click_stream_visit, earlier).join(begun_before, on="session", how="left_anti")
        warehouse.write(ods.click_stream_visit, begun_before.unionByName(old), earlier, rebalance=False)
    warehouse.write(ods.click_stream_visit, made.where(F.col("datestr") >= first), days, rebalance=False)
    reports.write(warehouse, days, ads.returning_visitor)
    if settings.funnels:
        _rebuild_funnels(warehouse, days, days[-1] + DAY, settings)
        went_on = views.where((clickstream.day_begun() < first) & funnel.is_step(settings.funnels))
        for value in sorted(row[0] for row in went_on.select(clickstream.day_begun()).distinct().collect()):
            _rebuild_funnels(warehouse, [_day_of(value)], days[-1], settings)


def _later_views(warehouse: Warehouse, day: date, still_open: DataFrame, tail: DataFrame | None) -> DataFrame | None:
    """Page views after `day` of the visits open at its end."""
    following = day + DAY
    if tail is not None:
        visitors_open = F.broadcast(still_open.select("remote_addr"))
        return clickstream.with_visits(tail.join(visitors_open, on="remote_addr", how="left_semi"), still_open).join(
            still_open, on="session", how="left_semi"
        )
    if not warehouse.has_partition(ods.click_stream_pageviews, following):
        return None
    sessions = F.broadcast(still_open.select("session"))
    goes_further = warehouse.read(dws.open_visit, [following]).join(sessions, on="session", how="left_semi")
    after = F.col("datestr") > ods.click_stream_pageviews.partition_value(day)
    later = warehouse.read(ods.click_stream_pageviews, None if goes_further.limit(1).count() else [following])
    return later.where(after).join(sessions, on="session", how="left_semi")


# --- visitors and funnels ---


def _rebuild_visitors(warehouse: Warehouse, settings: WeblogSettings, days: Days) -> None:
    values = [dim.visitor.partition_value(day) for day in days]
    known = [value for value in warehouse.partitions(dim.visitor) if value < values[0]]
    before = warehouse.read(dim.visitor).where(F.col("datestr") == (known[-1] if known else ""))
    views = warehouse.read(ods.click_stream_pageviews, days)
    history = visitors.history(warehouse.spark, views, before, values)
    warehouse.write(dim.visitor, history, days, rebalance=False)
    reports.write(warehouse, days, ads.new_visitor)
    if settings.area_table is not None:
        warehouse.write(dim.area, areas.areas(views, settings.area_table.resolve()), days, rebalance=False)


def _rebuild_funnels(warehouse: Warehouse, days: Days, until: date, settings: WeblogSettings) -> None:
    """Funnels of visits begun on `days`, with their views up to `until`."""
    views = warehouse.read(ods.click_stream_pageviews, [days[0] + n * DAY for n in range((until - days[0]).days + 1)])
    values = [ads.oute_nums.partition_value(day) for day in days]
    reached = funnel.reached(warehouse.spark, views, settings.funnels, values)
    warehouse.write(ads.oute_nums, reached, days, rebalance=False)
    reports.write(warehouse, days, ads.funnel)


def _day_of(datestr: str) -> date:
    return datetime.strptime(datestr, "%Y%m%d").date()
