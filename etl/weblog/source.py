"""Which lines belong to a day: those of its landing folder, and of the neighbours' folders those with its date."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import reduce
from operator import or_

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from conf import Config, Paths, UserError
from etl.settings import SiteSettings
from etl.sources.lines import expand_sources, landed_files, landing_day, require_files
from etl.weblog.formats.format import MONTHS, Formats
from etl.weblog.formats.keys import VisitorKey
from etl.weblog.formats.parse import parse
from etl.weblog.formats.reader import LogReader
from etl.weblog.formats.site import SiteRules
from etl.weblog.settings import WeblogSettings

DAY = timedelta(days=1)
# Searching a line for more texts than this costs as much as parsing it.
_MAX_DATES_SEARCHED = 50


def find_files(config: Config, days: Sequence[date], sources: Sequence[str]) -> list[str]:
    """The files to load.

    A command calls this before Spark starts, too: a missing file is reported at once and not after Spark's start.

    Args:
        config: where the landing zone is.
        days: whose landing folders to list, if there are no `sources`.
        sources: files and folders that the user named.

    Raises:
        UserError: if there are no files, or neither days nor sources.
    """
    if sources:
        return expand_sources(sources)
    if not days:
        raise UserError("--all-dates needs --source: the landing zone has a folder for each day")
    files = [file for day in days for file in _landed(config, day)]
    require_files(files, config.get(Paths).landing("weblog", days[0]), days)
    return files


@dataclass(frozen=True)
class LogLines:
    """The log lines that matter for some days."""

    own: DataFrame
    """All lines of the days' files, whatever their dates: they are accounted for under these days."""
    neighbours: DataFrame | None
    """Lines of the folders before and after the days that have one of the days' dates; None when files were named."""
    following: DataFrame
    """Lines with the date after a day that is not among them: visits may go on there."""


def read_log_lines(reader: LogReader, config: Config, days: Sequence[date], sources: Sequence[str]) -> LogLines:
    """Lines of `days` from the landing zone, or of the files in `sources`.

    A web server logs a request when it is done, and perhaps in a time zone of its own: a request near midnight may be
    in the file of the day before or after.

    Args:
        reader: knows the files' formats then.
        config: where the landing zone is.
        days: the days to load, in order.
        sources: files that the user named, instead of the landing zone.

    Raises:
        UserError: as `find_files`, or a file of the days has no readable line.
    """
    own = reader.read(find_files(config, days, sources))
    sets = reader.format_sets
    # In a zone of the site's, a day may have another date in the line.
    margin = DAY if config.get(SiteSettings).timezone is not None else 0 * DAY
    days_after = adjacent_days(days, DAY)
    if sources:
        return LogLines(own, None, _with_dates(own, days_after, margin, sets))
    adjacent = {*days_after, *adjacent_days(days, -DAY)}
    landed = {day: _landed(config, day) for day in sorted(adjacent)}
    files = [file for files_of_day in landed.values() for file in files_of_day]
    neighbours = _with_dates(reader.read(files, is_strict=False), days, margin, sets) if files else None
    # Own files, too: the requests after midnight that were logged before the file rolled.
    next_files = [file for day in days_after for file in landed[day]]
    following = own.unionByName(reader.read(next_files, is_strict=False)) if next_files else own
    return LogLines(own, neighbours, _with_dates(following, days_after, margin, sets))


def adjacent_days(days: Collection[date], shift: timedelta) -> list[date]:
    """The days that are `shift` (DAY or -DAY) from one of `days` and not among them: days may have holes."""
    return sorted({day + shift for day in days} - set(days))


def parse_lines(lines: DataFrame, format_sets: Sequence[Formats], config: Config, days: Sequence[date]) -> DataFrame:
    """Parse lines into requests; adds `dt`, the day under which a rejected line is counted.

    That is the day of its landing folder, or the first of `days` for a file elsewhere.
    """
    # Such a line has no date of its own that could be trusted.
    folder_day = landing_day()
    counted_under = F.when(folder_day == "", F.lit(days[0].isoformat())).otherwise(folder_day)
    settings, zone = config.get(WeblogSettings), config.get(SiteSettings).timezone
    parsed = parse(
        lines,
        settings.max_line_bytes,
        settings.first_day,
        settings.last_day,
        zone,
        format_sets=format_sets,
        static_suffixes=settings.static_suffixes,
        proxies=settings.trusted_proxies,
        visitor_key=VisitorKey.parse(settings.visitor_key),
        sites=SiteRules(settings.site_from, tuple(settings.hosts)),
    )
    return parsed.withColumn("dt", counted_under)


def _landed(config: Config, day: date) -> list[str]:
    folder = config.get(Paths).landing("weblog", day)
    return landed_files(folder)


def _with_dates(lines: DataFrame, days: Sequence[date], margin: timedelta, format_sets: Sequence[Formats]) -> DataFrame:
    """At least the lines that contain the text of one of the dates, or one so close: far cheaper than to parse all."""
    ways = {format.writes_dates_as for formats in format_sets for format in formats}
    if "epoch" in ways:  # a number of seconds is no text to search for
        return lines
    dates = sorted({day + shift for day in days for shift in (-margin, 0 * DAY, margin)})
    if len(dates) > _MAX_DATES_SEARCHED:
        return lines
    has_date = [F.contains("line", F.lit(_written_date(day, way))) for day in dates for way in sorted(ways)]
    return lines.where(reduce(or_, has_date, F.lit(False)))


def _written_date(day: date, way: str) -> str:
    """`07/Jan/2026:`, in English whatever the locale, or `2026-01-07`."""
    month = MONTHS[3 * (day.month - 1) : 3 * day.month]
    return day.isoformat() if way == "iso" else f"{day.day:02d}/{month}/{day.year:04d}:"


def day_of_datestr(datestr: str) -> date:
    """The day of a web-log table's partition, from its value such as `20130918`."""
    return datetime.strptime(datestr, "%Y%m%d").date()
