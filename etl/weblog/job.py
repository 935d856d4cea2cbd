"""Web logs: lines -> requests with their dimensions -> visits -> the analysts' tables; bad lines to ods_quarantine.

millrace etl weblog --date 2013-09-18 --source access.log
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from functools import partial
from itertools import groupby
from operator import itemgetter

from py4j.protocol import Py4JJavaError
from pyspark.sql import Column, DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

from conf import Config, Paths, UserError
from etl.session import SPARK_ERRORS, run_concurrently
from etl.settings import SiteSettings
from etl.sources.compressed import unpacked_bytes
from etl.sources.lines import corrupt_file_error, landed_days, warn_of_days_left_out
from etl.stage import RowCounts, stage_run, total_counts
from etl.table import Table, any_of
from etl.tables import ads, dim, dwd, dws, ods, ops
from etl.warehouse import quarantine
from etl.warehouse.store import Warehouse
from etl.weblog import areas, dimensions, reports, visitors
from etl.weblog.formats.reader import LogReader
from etl.weblog.formats.site import SiteRules
from etl.weblog.rebuild import rebuild
from etl.weblog.settings import WeblogSettings
from etl.weblog.source import DAY, LogLines, adjacent_days, day_of_datestr, find_files, parse_lines, read_log_lines

log = logging.getLogger(__name__)

_NOTABLE = 0.001  # share of lines without a format from which it is worth a pass to look for one
_SMALL_BYTES = 64 << 20
_FEW_LINES = 10_000  # whose agents are looked at in this process
_HAS_NO_FORMAT = r"^not_.*_format$"

# All that a load reads or writes: looked up together, for each call to the metastore takes as long as a small query.
_TABLES = (
    *(dwd.weblog_request, ods.weblog_origin, ods.weblog_detail, ods.quarantine),
    *(dim.date, dim.time, dim.page, dim.referrer, dim.user_agent, dim.visitor),
    *(ods.click_stream_pageviews, ods.click_stream_visit, dws.open_visit),
    *(table for chain in reports.PAGE_VIEWS for table in chain),
    *(ads.new_visitor, ads.returning_visitor, ads.visitor_daily, ops.run),
)
_FUNNELS = (ads.oute_nums, ads.funnel)
_COUNTS = """
select datestr, count(*) as requests, count_if(valid = 'true') as valid
from dwd_weblog_request where datestr between :first and :last group by datestr
"""
_FILES = "select distinct file from dwd_weblog_request where datestr between :first and :last limit 100"
Days = Sequence[date]
Parse = Callable[[DataFrame], DataFrame]


class MoreFormatsError(Exception):
    """Lines have formats that their files' samples have not: they have to be read again."""


def run(spark: SparkSession, config: Config, days: Days, sources: Sequence[str] = ()) -> dict[str, int]:
    """Load the days' logs and rebuild the tables that follow from them.

    A day of several that has no files, or no line in `sources`, keeps what it has; a warning names it.

    Args:
        spark: the session.
        config: `weblog.*`, and the paths of landing zone and warehouse.
        days: the days to load, in order; when empty, all days found in `sources`.
        sources: log files or folders; when empty, the days' landing folders.

    Returns:
        Row counts over the days. Lines of other days are counted (`rows_other_date`) and not loaded.

    Raises:
        UserError: there are no files or no lines of the days, a file is corrupt or has no readable line, or the table
            of areas is bad.
    """
    settings, warehouse = config.get(WeblogSettings), Warehouse(spark, config)
    if settings.area_table is not None:
        areas.load_networks(str(settings.area_table.resolve()))  # a bad table fails before the work
    reader = LogReader(spark, settings.log_format)
    with _explained():
        days = _days_to_load(reader, config, days, sources)
    warehouse.ensure(*_TABLES, *(_FUNNELS if settings.funnels else ()))
    visitors.check_key(warehouse, settings.visitor_key, days)
    is_small = unpacked_bytes(find_files(config, days, sources)) < _SMALL_BYTES
    with (
        stage_run(warehouse, "weblog", days) as counts,
        warehouse.whole_or_nothing(reads_pending=True, is_small=is_small),
    ):
        with _explained():
            while True:
                lines = read_log_lines(reader, config, days, sources)
                parse = partial(parse_lines, format_sets=reader.format_sets, config=config, days=days)
                try:
                    _load_requests(warehouse, reader, lines, parse, settings, days, counts)
                    break
                except MoreFormatsError:  # outside the sampled parts of a file; nothing was written yet
                    continue
            following = _page_views_after(warehouse, lines, parse, days, counts)
        rebuild(warehouse, settings, days, following)
    return total_counts(counts)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except SPARK_ERRORS as error:
        raise corrupt_file_error(error) or error from None


def _days_to_load(reader: LogReader, config: Config, days: Days, sources: Sequence[str]) -> Days:
    """Those of `days` that there are lines for; all days of the sources when it is empty."""
    if days and not sources:
        return landed_days(config.get(Paths), "weblog", days) or days  # none: recorded as a failed run
    if len(days) == 1:
        return days  # named by itself: no pass over the files to find that out
    dates = _dates_in(reader, config, sources)
    present = [day for day in days if day in dates] if days else dates
    if not present:
        span = f" of {days[0]}..{days[-1]}" if days else ""
        raise UserError(f"{', '.join(sources)}: no line that can be read{span}; nothing was changed")
    warn_of_days_left_out(days, present, "no line in the files")
    return present


def _dates_in(reader: LogReader, config: Config, sources: Sequence[str]) -> list[date]:
    """The dates of all valid lines."""
    lines = reader.read(find_files(config, [], sources))
    today = config.get(SiteSettings).today()  # for rejected lines
    parsed = parse_lines(lines, reader.format_sets, config, [today])
    has_no_format = F.col("reason").rlike(_HAS_NO_FORMAT)
    datestr = F.when(F.col("reason").isNull(), F.col("datestr")).alias("datestr")
    rows = parsed.groupBy(datestr).agg(F.count("*"), F.count_if(has_no_format)).collect()
    num_unread = sum(row[2] for row in rows)
    if num_unread > _NOTABLE * sum(row[1] for row in rows) and reader.add_formats(parsed.where(has_no_format)):
        return _dates_in(reader, config, sources)
    return [day_of_datestr(row[0]) for row in sorted(row for row in rows if row[0] is not None)]


def _page_views_after(
    warehouse: Warehouse, lines: LogLines, parse: Parse, days: Days, counts: dict[date, RowCounts]
) -> DataFrame | None:
    """Page views of the days in which visits of `days` may go on and that are not loaded; None where there are none.

    They are parsed from the lines at hand, because such a day may be loaded later.
    """
    # Named files without lines of other days have no line of a day after, either.
    if lines.neighbours is None and not sum(count.rows_other_date for count in counts.values()):
        return None
    days_after = adjacent_days(days, DAY)
    written = warehouse.written_days(ods.click_stream_pageviews, days_after)
    datestrs = [dwd.weblog_request.partition_value(day) for day in days_after if day not in written]
    if not datestrs:
        return None
    is_page_view = F.col("reason").isNull() & (F.col("valid") == "true")
    return parse(lines.following).where(is_page_view & F.expr(any_of("datestr", datestrs)))


# --- requests and their dimensions ---


def _load_requests(
    warehouse: Warehouse,
    reader: LogReader,
    lines: LogLines,
    parse: Parse,
    settings: WeblogSettings,
    days: Days,
    counts: dict[date, RowCounts],
) -> None:
    """Write the requests of the days, quarantine rejected lines, and account for every line of the days' files.

    Raises:
        MoreFormatsError: a notable share of the lines had no format, and `reader` has more formats now.
    """
    datestrs = [dwd.weblog_request.partition_value(day) for day in days]
    all_lines = lines.own.withColumn("is_own", F.lit(True))
    if lines.neighbours is not None:
        all_lines = all_lines.unionByName(lines.neighbours.withColumn("is_own", F.lit(False)))
    parsed = parse(all_lines)
    is_parsed, is_own = F.col("reason").isNull(), F.col("is_own")
    is_of_days = is_parsed & F.expr(any_of("datestr", datestrs))
    # The neighbours' folders account for their own lines, except those that belong to these days.
    line_counts = [
        F.count_if(is_own | is_of_days).alias("lines"),
        F.count_if(is_own & is_parsed & ~is_of_days).alias("other_date"),
        F.count_if(is_own & ~is_parsed).alias("rejected"),
        F.count_if(F.col("reason").rlike(_HAS_NO_FORMAT)).alias("without_format"),
    ]
    observation = Observation()
    _warn_of_replaced_files(warehouse, all_lines, days)

    def before_checks(rows: DataFrame) -> None:
        observed.update(_observed_counts(observation, parsed, line_counts))
        is_notable = observed["without_format"] > _NOTABLE * observed["lines"]
        if is_notable and reader.add_formats(parsed.where(F.col("reason").rlike(_HAS_NO_FORMAT))):
            raise MoreFormatsError
        # From the rows as they were written: the lines are not parsed again.
        _write_dimensions(warehouse, rows, settings, days, is_few=observed["lines"] <= _FEW_LINES)

    observed: dict[str, int] = {}
    # One pass over the lines: counted while they are written.
    warehouse.write(
        dwd.weblog_request,
        parsed.observe(observation, *line_counts).where(is_of_days),
        days,
        rebalance=False,
        before_checks=before_checks,
    )
    quarantined = dict.fromkeys(days, 0)
    # A second pass, only when there is something to quarantine, or there was.
    if observed["rejected"] or warehouse.written_days(ods.quarantine, days):
        rejected = parsed.where(~is_parsed & is_own) if observed["rejected"] else parsed.limit(0)
        quarantined = quarantine.replace(warehouse, "weblog", lines.own, rejected, days)
    _fill_counts(counts, _count_by_validity(warehouse, days), quarantined, observed)
    if settings.hosts:
        _warn_of_other_sites(warehouse, settings, days)


def _observed_counts(observation: Observation, parsed: DataFrame, line_counts: list[Column]) -> dict[str, int]:
    """What was counted while the rows were written.

    Where no line was accepted, Spark drops the observing node with the empty plan; then they are counted on their own.
    """
    try:
        observed = observation.get
    except Py4JJavaError:
        observed = parsed.agg(*line_counts).collect()[0].asDict()
    return {name: int(value) for name, value in observed.items()}


def _fill_counts(
    counts: dict[date, RowCounts],
    by_validity: dict[str, tuple[int, int]],
    quarantined: dict[date, int],
    observed: dict[str, int],
) -> None:
    for day, count in counts.items():
        count.rows_out, count.rows_invalid = by_validity.get(ods.weblog_origin.partition_value(day), (0, 0))
        count.rows_quarantined = quarantined[day]
        count.rows_in = count.rows_out + count.rows_invalid + count.rows_quarantined
    # Not known by day, so that they stand with the first one.
    next(iter(counts.values())).rows_other_date = observed["other_date"]
    # Counted twice, on the way in and in the tables: a line that was lost would show here.
    loaded = sum(count.rows_in for count in counts.values())
    if observed["lines"] != loaded + observed["other_date"]:
        raise RuntimeError(
            f"weblog: {observed['lines']} lines read, {loaded} loaded, {observed['other_date']} of other days"
        )


def _warn_of_other_sites(warehouse: Warehouse, settings: WeblogSettings, days: Days) -> None:
    """Say of each day how many requests `weblog.hosts` leaves out, and of which sites most are."""
    rules = SiteRules(settings.site_from, tuple(settings.hosts))
    name = F.coalesce(F.lower("site" if settings.site_from != "none" else "host"), F.lit("no host"))
    counts = warehouse.read(dwd.weblog_request, days).groupBy("datestr", name.alias("name")).count()
    others = counts.where(~rules.includes(F.col("name"))).orderBy("datestr", F.desc("count"), "name").collect()
    for datestr, of_day in groupby(others, key=itemgetter("datestr")):
        rows = list(of_day)
        names = ", ".join(f"{row['name']} {row['count']}" for row in rows[:3])
        count, more = sum(row["count"] for row in rows), f" and {len(rows) - 3} more" if len(rows) > 3 else ""
        day = day_of_datestr(datestr)
        log.warning("%s: %d requests of other sites than weblog.hosts are invalid (%s%s)", day, count, names, more)


def _warn_of_replaced_files(warehouse: Warehouse, lines: DataFrame, days: Days) -> None:
    """Warn when the days were loaded from other files before: a day comes from the files of one command."""
    days_loaded = warehouse.written_days(dwd.weblog_request, days)
    if not days_loaded:
        return
    files = {file.removeprefix("file://") for file in lines.inputFiles()}
    loaded = reports.rows_of(reports.query(warehouse, _FILES, {"file": "string"}, dwd.weblog_request, days_loaded))
    dropped = sorted(row["file"] for row in loaded if row["file"].removeprefix("file://") not in files)
    if dropped:
        log.warning(
            "%s: rows of %s are replaced; to keep them, name all files of a day in one command",
            days[0] if len(days) == 1 else f"{days[0]}..{days[-1]}",
            ", ".join(dropped[:3]) + (f" and {len(dropped) - 3} more" if len(dropped) > 3 else ""),
        )


def _write_dimensions(
    warehouse: Warehouse, requests: DataFrame, settings: WeblogSettings, days: Days, *, is_few: bool
) -> None:
    """Write the dimensions before the fact's checks, which require that every key be in its dimension."""
    spark = warehouse.spark
    if not warehouse.has_partition(dim.time, days[0]):
        warehouse.write(dim.time, dim.time.with_partition(dimensions.minutes(spark), days[0]), days[:1])
    num_dates = (settings.last_day - settings.first_day).days + 1
    # Written again when the settings' span has changed.
    if not warehouse.has_partition(dim.date, days[0]) or warehouse.read(dim.date).count() != num_dates:
        dates = dimensions.dates(spark, settings.first_day, settings.last_day)
        warehouse.write(dim.date, dim.date.with_partition(dates, days[0]), days[:1])
    pages = partial(dimensions.pages, static_suffixes=settings.static_suffixes)
    by_table: dict[Table, Callable[[DataFrame], DataFrame]] = {
        dim.page: pages,
        dim.referrer: dimensions.referrers,
        dim.user_agent: partial(dimensions.user_agents, is_few=is_few),
    }
    run_concurrently(
        *[partial(warehouse.write, table, build(requests), days, rebalance=False) for table, build in by_table.items()]
    )


def _count_by_validity(warehouse: Warehouse, days: Days) -> dict[str, tuple[int, int]]:
    """Valid and invalid requests by datestr."""
    columns = {"datestr": "string", "requests": "bigint", "valid": "bigint"}
    counts = reports.query(warehouse, _COUNTS, columns, dwd.weblog_request, days)
    return {row["datestr"]: (row["valid"], row["requests"] - row["valid"]) for row in reports.rows_of(counts)}
