"""Which lines make a day: those of its landing folder, and of the neighbours' folders those that bear its date."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from conf import Config, Paths, UserError
from etl.sources.lines import expand_sources, landed_files, read_lines, require_files
from etl.weblog.parse import MONTHS, parse
from etl.weblog.settings import WeblogSettings

DAY = timedelta(days=1)


def find_files(config: Config, days: Sequence[date], sources: Sequence[str]) -> list[str]:
    """The files to load. Raises UserError when there are none; asked before Spark starts, too, to say so at once."""
    if sources:
        return expand_sources(sources)
    if not days:
        raise UserError("--all-dates needs --source: the landing zone has a folder for each day")
    files = [file for day in days for file in _landed(config, day)]
    require_files(files, config.get(Paths).landing("weblog", days[0]), days)
    return files


@dataclass(frozen=True)
class Lines:
    """The lines of some days: `own` are all lines of their files; `near` bear one of the dates elsewhere."""

    own: DataFrame
    near: DataFrame | None
    after: DataFrame
    """Lines that bear the date after a day that is not among them."""


def lines_of(spark: SparkSession, config: Config, days: Sequence[date], sources: Sequence[str]) -> Lines:
    """Lines of `days` from the landing zone, or of the files named."""
    own = read_lines(spark, find_files(config, days, sources))
    following = sorted({day + DAY for day in days} - set(days))
    if sources:
        return Lines(own, None, _of_dates(own, following))
    # A web server writes a request down when it is done, and perhaps in an offset of its own: look on either side.
    beside = {day: _landed(config, day) for day in {*following, *(day - DAY for day in days)} - set(days)}
    files = [file for day in sorted(beside) for file in beside[day]]
    near = _of_dates(read_lines(spark, files), days) if files else None
    next_files = [file for day in following for file in beside[day]]
    after = own.unionByName(read_lines(spark, next_files)) if next_files else own
    return Lines(own, near, _of_dates(after, following))


def requests(lines: DataFrame, settings: WeblogSettings, days: Sequence[date]) -> DataFrame:
    """Parse lines; `dt` is the day that a line which can't be read counts for: its folder's, or the first of `days`."""
    folder_day = F.regexp_extract("file", r"/dt=(\d{4}-\d{2}-\d{2})/", 1)
    counted_for = F.when(folder_day == "", F.lit(days[0].isoformat())).otherwise(folder_day)
    parsed = parse(lines, settings.max_line_bytes, settings.first_day, settings.last_day)
    return parsed.withColumn("dt", counted_for)


def _landed(config: Config, day: date) -> list[str]:
    return landed_files(config.get(Paths).landing("weblog", day))


def _of_dates(lines: DataFrame, days: Sequence[date]) -> DataFrame:
    """Lines that hold a date's text: far cheaper than to parse all of them."""
    stamps = [F.contains("line", F.lit(_stamp(day))) for day in days]
    found = stamps[0]
    for stamp in stamps[1:]:
        found = found | stamp
    return lines.where(found)


def _stamp(day: date) -> str:
    month = MONTHS[3 * (day.month - 1) : 3 * day.month]
    return f"[{day.day:02d}/{month}/{day.year:04d}:"
