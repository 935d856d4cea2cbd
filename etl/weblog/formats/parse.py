"""Lines of a web server's log -> requests (dwd_weblog_request): cells, time in UTC, client, then the columns."""

from collections.abc import Mapping, Sequence
from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from etl.clock import local_time
from etl.weblog.formats.catalog import COMBINED
from etl.weblog.formats.cells import (
    add_cells,
    distinct_formats,
    has_format,
    present_cells,
    split_groups,
    without_headers,
)
from etl.weblog.formats.client import client_address
from etl.weblog.formats.format import BACKSLASH, CELLS, MONTHS, Formats, LineFormat
from etl.weblog.formats.keys import ADDRESS, VisitorKey
from etl.weblog.formats.request import static_pattern, to_request
from etl.weblog.formats.site import ONE_SITE, SiteRules
from etl.weblog.formats.visitor import with_visitor_cells

# Method and URL; HTTP/0.9 has no version, and URLs of broken clients have blanks.
REQUEST = r"(?s)^(\S+) (\S.*?)(?: HTTP/\d(?:\.\d)?)?\z"
_MAX_EPOCH_S = 4_102_444_800  # 2100


def parse(
    lines: DataFrame,
    max_bytes: int,
    first: date,
    last: date,
    zone: str | None = None,
    *,
    format_sets: Sequence[Formats] = (COMBINED,),
    static_suffixes: Sequence[str] = (),
    proxies: Sequence[str] = (),
    visitor_key: VisitorKey = ADDRESS,
    sites: SiteRules = ONE_SITE,
) -> DataFrame:
    """Add the columns of dwd_weblog_request, `datestr`, and `reason` (null for a line that could be parsed).

    Args:
        lines: `line`, `file`, `block` and `id`, as `read_lines` returns them; with more than one of `format_sets` also
            `formats`, the index of the line's. The header lines of W3C logs are left out.
        max_bytes: a longer line is rejected as too_long, without matching it.
        first: first day of dim_date; a line of an earlier day is rejected as bad_time.
        last: last day of dim_date.
        zone: time zone of `time_local` and so of the days; without it they are as written in the line.
        format_sets: formats that lines may have, each set in the order in which they are tried.
        static_suffixes: file name suffixes that are no page views, in addition to STATIC_SUFFIXES.
        proxies: networks (CIDR) whose word on the client's address is taken, see `client_address`.
        visitor_key: what tells visitors apart.
        sites: what tells sites apart, and which of them count.

    Raises:
        UserError: no format of the lines has the cookie or field of the key.
    """
    format_sets = with_visitor_cells(format_sets, visitor_key)
    too_long = F.octet_length("line") > max_bytes
    # The regular expressions see only valid text of bounded length.
    text = F.when(~too_long & F.is_valid_utf8("line"), F.rtrim(F.col("line")))
    matched = (
        without_headers(lines, format_sets)
        .select("*", too_long.alias("too_long"), text.alias("text"))
        .transform(add_cells, format_sets)
    )
    present = present_cells(format_sets)
    cells = {name: F.try_element_at("cells", F.lit(index)) for index, name in enumerate(present, 1)}
    # Literals, so that Spark drops what would be done with cells that no format has.
    cells |= {name: F.lit("") for name in CELLS if name not in present}
    if all(format.cells & {"escaping"} and not format.is_w3c for format in distinct_formats(format_sets)):
        cells["escaping"] = F.lit(BACKSLASH)
    named = matched.select("*", *[cell.alias(name) for name, cell in cells.items() if name not in ("date", "zone")])
    timed = named.transform(_add_times, cells, zone)
    is_of_calendar = F.substring("time_local", 1, 10).between(first.isoformat(), last.isoformat())
    is_valid_time = F.col("requested_at").isNotNull() & is_of_calendar
    internal = {*CELLS, "cells", "formats", "request_parts", "text", "too_long", "is_valid_time", "written", "offset"}
    return (
        timed.withColumn("request_parts", split_groups("request_line", REQUEST, [[1], [2]]))
        .withColumn("is_valid_time", is_valid_time)
        .withColumn("reason", _reject_reason(format_sets))
        .withColumn("addr", client_address(proxies) if proxies else F.col("addr"))
        .transform(to_request, static_pattern(static_suffixes), visitor_key, sites)
        .drop(*sorted(internal - {"host", "method"}))
    )


def _add_times(rows: DataFrame, cells: Mapping[str, Column], zone: str | None) -> DataFrame:
    """Add `time_local`, and `requested_at` in UTC, which is null for a time that there is not."""
    seconds = F.col("epoch").try_cast("double")
    instant = F.when(seconds.between(0, _MAX_EPOCH_S), F.timestamp_seconds(seconds))
    # The last second of an hour may be a leap second; it stays within its day.
    time = F.when(F.endswith("time", F.lit(":59:60")), F.concat(F.substring("time", 1, 6), F.lit("59"))).otherwise(
        F.col("time")
    )
    written = F.when(F.col("epoch") != "", F.date_format(instant, "yyyy-MM-dd HH:mm:ss")).when(
        F.size("cells") > 1, F.concat_ws(" ", _day(cells["date"]), time)
    )
    offset = F.replace(F.replace(F.rtrim(cells["zone"]), F.lit("Z"), F.lit("+0000")), F.lit(":"), F.lit(""))
    rows = rows.withColumns({"written": written, "offset": F.when(F.col("epoch") != "", "+0000").otherwise(offset)})
    # 31 February matches the pattern, but is no timestamp; concat_ws leaves out the month that has no number. Nor are
    # second 60 of other minutes and 24:00:00, which servers do not write.
    timestamp = F.when(F.length("written") == 19, F.col("written").try_cast("timestamp"))
    timed = rows.withColumn("requested_at", _to_utc(timestamp, zone))
    time_local = F.col("written")
    if zone is not None:
        time_local = F.date_format(local_time("requested_at", zone), "yyyy-MM-dd HH:mm:ss")
    return timed.withColumn("time_local", time_local)


def _to_utc(written: Column, zone: str | None) -> Column:
    """The time written in the line, less its offset: null for one that there is not, as +1960."""
    sign, digits = F.substring("offset", -5, 1), F.substring("offset", -4, 4)
    hours, minutes = F.substring(digits, 1, 2).try_cast("int"), F.substring(digits, 3, 2).try_cast("int")
    is_offset, direction = (hours <= 14) & (minutes < 60), F.when(sign == "-", -1).otherwise(1)
    seconds = F.when(is_offset, direction * (hours * 60 + minutes) * 60)
    shifted = F.timestamp_seconds(F.unix_timestamp(written) - seconds)
    # A log without offsets is in the site's zone.
    without = F.to_utc_timestamp(written, zone) if zone is not None else written
    return F.when(F.rlike("offset", F.lit(r"[+-]\d{4}\z")), shifted).otherwise(without)


def _day(text: Column) -> Column:
    """2026-Feb-05 or 2026-02-05 -> 2026-02-05."""
    # Months have three letters each: "Feb" is at 4, "anF" at 2 is no month.
    index = F.instr(F.lit(MONTHS), F.substring(text, 6, 3))
    month = F.when(index % 3 == 1, F.lpad(((index + 2) / 3).cast("int").cast("string"), 2, "0"))
    named = F.concat_ws("-", F.substring(text, 1, 4), month, F.substring(text, 10, 2))
    return F.when(F.length(text) == 11, named).otherwise(text)


def _reject_reason(format_sets: Sequence[Formats]) -> Column:
    # The costly match of a second pattern is only for lines that failed the first.
    has_other_time = F.size("cells") > 1
    for format in distinct_formats(format_sets):
        if isinstance(format, LineFormat):
            has_other_time |= has_format(format, format_sets) & F.rlike("text", F.lit(format.pattern_of_any_time))
    reasons = [f"not_{formats[0].name if formats else 'w3c'}_format" for formats in format_sets]
    unreadable = F.lit(reasons[0])
    for index, reason in enumerate(reasons[1:], 1):
        unreadable = F.when(F.col("formats") == index, reason).otherwise(unreadable)
    return (
        F.when(F.col("too_long"), "too_long")
        .when(~F.is_valid_utf8("line"), "invalid_utf8")
        .when(F.trim("line") == "", "empty_line")
        .when(F.col("is_valid_time"), F.lit(None))
        .when(has_other_time, "bad_time")
        .otherwise(unreadable)
    )
