"""Lines of a web server's log -> requests (dwd_weblog_request), in Spark's own expressions.

Each line is matched once: the groups are joined by a separator and split again, where `regexp_extract` would match once
for every column. Lines that contain the separator take that longer way.
"""

from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from etl.clock import local_time
from etl.session import PARSE_URL

# nginx/Apache combined format; common format has neither referrer nor agent. Quoted parts may contain \" and the like;
# possessive quantifiers, so that a hostile line can't make the match backtrack. \z, because $ accepts some line ends.
_QUOTED = r'"((?:[^"\\]++|\\.)*+)"'
_BEFORE, _AFTER = r"^(\S++) (\S++) (\S++) \[", rf"\] {_QUOTED} (\d{{3}}) (\d++|-)(?: {_QUOTED} {_QUOTED})?\s*\z"
LINE = rf"{_BEFORE}(\d\d)/(\w{{3}})/(\d{{4}}):(\d\d:\d\d:\d\d)([^\]]*+){_AFTER}"
LINE_OF_ANY_TIME = rf"{_BEFORE}[^\]]*+{_AFTER}"
GROUPS = (
    "addr",
    "ident",
    "user",
    "dd",
    "mon",
    "yyyy",
    "time",
    "zone",
    "request_line",
    "code",
    "size",
    "referer",
    "agent",
)
MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec"
# Method and URL; HTTP/0.9 has no version, and URLs of broken clients have blanks.
REQUEST = r"(?s)^(\S+) (\S.*?)(?: HTTP/\d(?:\.\d)?)?\z"
STATIC = r"\.(js|css|map|png|jpg|jpeg|gif|ico|svg|webp|bmp|woff|woff2|ttf|eot|otf|mp3|mp4|swf)\z"
# A URL that java.net.URL takes apart in the same way: no user, no fragment, no /. or /.. to take out of the path.
PLAIN_URL = r"^(?i:https?|ftp)://(?!//)([^/?#:@\[\]\s]*+)(?::\d++)?+((?:/(?!\.)[^/?#\s]*+)*+)(\?[^#\s]*+)?+\z"
_SEPARATOR = "\x01"
# The low 33 bits of monotonically_increasing_id count the rows of a partition; the high ones are the partition.
_ROW_BITS = (1 << 33) - 1


def parse(lines: DataFrame, max_bytes: int, first: date, last: date, zone: str | None = None) -> DataFrame:
    """Add the columns of dwd_weblog_request, `datestr`, and `reason` (null for a line that could be parsed).

    Args:
        lines: `line`, `file`, `block` and `id`, as `read_lines` returns them.
        max_bytes: a longer line is rejected as too_long, without matching it.
        first: first day of dim_date; a line of an earlier day is rejected as bad_time.
        last: last day of dim_date.
        zone: time zone of `time_local` and so of the days; without it they are as written in the line.
    """
    too_long = F.octet_length("line") > max_bytes
    # The regular expressions see only valid text of bounded length.
    text = F.when(~too_long & F.is_valid_utf8("line"), F.rtrim(F.col("line")))
    matched = lines.select("*", too_long.alias("too_long"), text.alias("text")).withColumn(
        "groups", _match_groups("text", LINE, len(GROUPS))
    )
    cells = {name: F.try_element_at("groups", F.lit(index)) for index, name in enumerate(GROUPS, 1)}
    day = F.concat_ws("-", cells["yyyy"], _month_number(cells["mon"]), cells["dd"])
    named = matched.select(
        "*",
        *[cells[name].alias(name) for name in ("addr", "user", "request_line", "code", "size", "referer", "agent")],
        F.when(F.size("groups") > 1, F.concat_ws(" ", day, cells["time"])).alias("written"),
        F.rtrim(cells["zone"]).alias("offset"),
    )
    # 31 February matches the pattern, but is no timestamp; concat_ws leaves out the month that has no number. Nor are
    # second 60 and 24:00:00, which servers do not write.
    written = F.when(F.length("written") == 19, F.col("written").try_cast("timestamp"))
    timed = named.withColumn("requested_at", _to_utc(written, zone))
    time_local = F.col("written")
    if zone is not None:
        time_local = F.date_format(local_time("requested_at", zone), "yyyy-MM-dd HH:mm:ss")
    timed = timed.withColumn("time_local", time_local)
    is_of_calendar = F.substring("time_local", 1, 10).between(first.isoformat(), last.isoformat())
    is_valid_time = F.col("requested_at").isNotNull() & is_of_calendar
    return (
        timed.withColumn("request_parts", _match_groups("request_line", REQUEST, 2))
        .withColumn("is_valid_time", is_valid_time)
        .transform(_to_request)
        .drop("groups", "request_parts", "text", "request_line", "too_long", "is_valid_time", "written", "offset")
    )


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


def _match_groups(name: str, pattern: str, count: int) -> Column:
    """The groups of the match, in one array; an array of one when the text does not match."""
    text = F.col(name)
    joined = F.regexp_replace(text, pattern, _SEPARATOR.join(f"${i}" for i in range(1, count + 1)))
    one_by_one = F.array(*[F.regexp_extract(text, pattern, i) for i in range(1, count + 1)])
    has_separator = F.contains(text, F.lit(_SEPARATOR))
    # -1: empty groups at the end stay.
    return F.when(~has_separator, F.split(joined, _SEPARATOR, -1)).otherwise(
        F.when(F.rlike(text, F.lit(pattern)), one_by_one).otherwise(F.array(text))
    )


def _month_number(name: Column) -> Column:
    # Months have three letters each: "Feb" is at 4, "anF" at 2 is no month.
    index = F.instr(F.lit(MONTHS), name)
    return F.when(index % 3 == 1, F.lpad(((index + 2) / 3).cast("int").cast("string"), 2, "0"))


def _to_request(rows: DataFrame) -> DataFrame:
    """Cells of the matched line -> the columns of the tables."""
    # A request line without a URL, such as "-" or a TLS handshake's bytes, is kept as it is, and is invalid.
    has_url = F.size("request_parts") > 1
    request = F.when(has_url, F.try_element_at("request_parts", F.lit(2))).otherwise(F.col("request_line"))
    with_request = rows.withColumnsRenamed(
        {"addr": "remote_addr", "user": "remote_user", "code": "status", "size": "body_bytes_sent"}
    ).withColumns(
        {
            "reason": _reject_reason(),
            "request": request,
            "http_referer": _or_dash("referer"),
            "http_user_agent": _or_dash("agent"),
            "method": F.when(has_url, F.try_element_at("request_parts", F.lit(1))),
            "ref_url": F.when(~F.col("referer").isin("", "-"), F.replace("referer", F.lit('"'), F.lit(""))),
            "datestr": F.replace(F.substring("time_local", 1, 10), F.lit("-"), F.lit("")),
        }
    )
    with_parts = with_request.withColumn("ref_parts", _match_groups("ref_url", PLAIN_URL, 3))
    page = F.substring_index("request", "?", 1)
    is_static = F.rlike(F.lower(page), F.lit(STATIC))
    is_valid = has_url & (F.col("status") < "400") & ~is_static
    return (
        with_parts.withColumns(
            {
                # Text, as Hive's scripts of old compare it.
                "valid": F.when(is_valid, "true").otherwise("false"),
                **_referrer_columns(),
                "bytes": F.col("body_bytes_sent").try_cast("bigint"),
                # Collected files lie below a folder per host.
                "host": F.nullif(F.regexp_extract("file", r"/host=([^/]+)/", 1), F.lit("")),
                "position": F.col("block") + F.col("id").bitwiseAND(F.lit(_ROW_BITS)),
                "page_key": F.xxhash64(page),
                "referrer_key": F.xxhash64("http_referer"),
                "agent_key": F.xxhash64("http_user_agent"),
            }
        )
        .drop("referer", "agent", "ref_url", "ref_parts")
        .transform(_add_time_columns)
    )


def _reject_reason() -> Column:
    # The costly match of a second pattern is only for lines that failed the first.
    has_other_time = F.rlike("text", F.lit(LINE_OF_ANY_TIME))
    return (
        F.when(F.col("too_long"), "too_long")
        .when(~F.is_valid_utf8("line"), "invalid_utf8")
        .when(F.trim("line") == "", "empty_line")
        .when(F.col("is_valid_time"), F.lit(None))
        .when(has_other_time, "bad_time")
        .otherwise("not_combined_format")
    )


def _or_dash(name: str) -> Column:
    is_empty = F.col(name) == ""
    return F.when(is_empty, "-").otherwise(F.col(name))


def _add_time_columns(rows: DataFrame) -> DataFrame:
    hour, minute = F.substring("time_local", 12, 2), F.substring("time_local", 15, 2)
    return rows.withColumns(
        {
            "daystr": F.substring("time_local", 1, 10),
            "timestr": F.substring("time_local", 12, 8),
            "month": F.substring("time_local", 6, 2),
            "day": F.substring("time_local", 9, 2),
            "hour": hour,
            "date_key": F.col("datestr").try_cast("int"),
            "time_key": F.concat(hour, minute).try_cast("int"),
        }
    )


def _referrer_columns() -> dict[str, Column]:
    """As Hive's `parse_url_tuple(regexp_replace(http_referer, '"', ''), 'HOST', 'PATH', 'QUERY', 'QUERY:id')`.

    Hive parses the URL anew for each column; the plain ones are taken apart by one match instead. (Spark's own
    `parse_url` is no help: it is slower still, and returns nothing for URLs that break the letter of the standard.)
    """
    url, parts = F.col("ref_url"), F.col("ref_parts")
    query = F.try_element_at(parts, F.lit(3))
    plain = {
        "HOST": F.try_element_at(parts, F.lit(1)),
        "PATH": F.try_element_at(parts, F.lit(2)),
        "QUERY": F.when(query != "", F.substring(query, 2, 65536)),  # without the question mark
    }
    is_plain = F.size(parts) > 1
    columns = {
        f"ref_{part.lower()}": F.when(is_plain, cell).when(
            url.isNotNull(), F.call_function(PARSE_URL, url, F.lit(part))
        )
        for part, cell in plain.items()
    }
    identifier = F.call_function(PARSE_URL, url, F.lit("QUERY"), F.lit("id"))
    # Few referrers have the parameter: a substring search spares the others the parser.
    return {**columns, "ref_query_id": F.when(F.contains(url, F.lit("id=")), identifier)}
