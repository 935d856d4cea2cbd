"""Cells of a line -> the columns of dwd_weblog_request."""

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from etl.session import PARSE_URL
from etl.weblog.formats.cells import position_in_file, split_groups
from etl.weblog.formats.format import BACKSLASH, W3C
from etl.weblog.formats.keys import VisitorKey
from etl.weblog.formats.site import SiteRules, add_site
from etl.weblog.formats.visitor import visitor_id

STATIC_SUFFIXES = (
    *("js", "mjs", "css", "map", "wasm", "woff", "woff2", "ttf", "eot", "otf"),
    *("png", "apng", "jpg", "jpeg", "jfif", "gif", "ico", "cur", "svg", "svgz", "webp", "avif", "jxl", "heic", "bmp"),
    *("tif", "tiff", "mp3", "mp4", "m4a", "m4v", "webm", "ogg", "oga", "ogv", "opus", "wav", "flac", "aac", "mov"),
    *("avi", "m3u8", "vtt", "swf", "webmanifest"),
)
# A URL that java.net.URL takes apart in the same way: no user, no fragment, no /. or /.. to take out of the path.
PLAIN_URL = r"^(?i:https?|ftp)://(?!//)([^/?#:@\[\]\s]*+)(?::\d++)?+((?:/(?!\.)[^/?#\s]*+)*+)(\?[^#\s]*+)?+\z"


def to_request(rows: DataFrame, static: str, visitor_key: VisitorKey, sites: SiteRules) -> DataFrame:
    """Cells of the matched line -> the columns of the tables.

    Args:
        rows: one per line, with its cells.
        static: the pattern of a static file's path, of `static_pattern`.
        visitor_key: what `visitor_id` is.
        sites: what `site` is, and which sites count.
    """
    # A request line without a URL, such as "-" or a TLS handshake's bytes, is kept as it is, and is invalid.
    is_split = F.size("request_parts") > 1
    has_own_url = ~F.col("url").isin("", "-") & (F.col("method") != "-")
    request = F.when(F.col("url") != "", _own_url()).when(is_split, F.try_element_at("request_parts", F.lit(2)))
    method = F.when(has_own_url, F.nullif("method", F.lit(""))).when(
        (F.col("url") == "") & is_split, F.try_element_at("request_parts", F.lit(1))
    )
    # Collected files lie below a folder per host.
    folder = F.nullif(F.regexp_extract("file", r"/host=([^/]+)/", 1), F.lit(""))
    sent = {
        "remote_user": _as_sent("user"),
        "body_bytes_sent": F.col("size"),
        "request": F.col("request_line"),
        "http_referer": F.col("referer"),
        "http_user_agent": _as_sent("agent"),
    }
    dashed = {name: F.when(text == "", "-").otherwise(text) for name, text in sent.items()}
    with_request = rows.withColumnsRenamed({"addr": "remote_addr", "code": "status"}).withColumns(
        {
            **dashed,
            "has_url": F.when(F.col("url") != "", has_own_url).otherwise(is_split),
            "request": F.coalesce(request, dashed["request"]),
            "method": method,
            "own_host": _own_host(),
            "ref_url": F.when(~F.col("referer").isin("", "-"), F.replace("referer", F.lit('"'), F.lit(""))),
            "datestr": F.replace(F.substring("time_local", 1, 10), F.lit("-"), F.lit("")),
        }
    )
    with_parts = with_request.withColumn("ref_parts", split_groups("ref_url", PLAIN_URL, [[1], [2], [3]]))
    page = F.substring_index("request", "?", 1)
    is_static = F.rlike(F.lower(page), F.lit(static))
    is_valid = F.col("has_url") & (F.col("status") < "400") & ~is_static
    return (
        with_parts.withColumns(
            {
                # Text, as Hive's scripts of old compare it.
                "valid": F.when(is_valid, "true").otherwise("false"),
                "is_static": is_static,
                "host": F.coalesce("own_host", folder),
                **_referrer_columns(),
                "bytes": F.col("body_bytes_sent").try_cast("bigint"),
                "position": position_in_file(),
                "page_key": F.xxhash64(page),
                "referrer_key": F.xxhash64("http_referer"),
                "agent_key": F.xxhash64("http_user_agent"),
            }
        )
        .transform(add_site, sites)
        .withColumn("visitor_id", visitor_id(visitor_key))
        .drop("ref_url", "ref_parts", "has_url", "own_host", "is_static")
        .transform(_add_time_columns)
    )


def static_pattern(suffixes: Sequence[str]) -> str:
    """The pattern of a path, in lower case, of a static file: with one of STATIC_SUFFIXES, or of `suffixes`."""
    names = [suffix.lower().lstrip(".") for suffix in (*STATIC_SUFFIXES, *suffixes)]
    return rf"\.({'|'.join(names)})\z"


def _own_url() -> Column:
    """The URL of a format that has it apart from the method; W3C logs have the query apart, too, and some the host."""
    is_whole = (F.col("escaping") == W3C) & ~F.startswith("url", F.lit("/"))
    path = F.when(is_whole, F.regexp_replace("url", r"^(?:\w+://)?[^/?#\s]+\.[^/?#\s]+(?=/)", "")).otherwise(
        F.col("url")
    )
    query = F.ltrim(F.col("query"), F.lit("?"))
    return F.when(query.isin("", "-"), path).otherwise(F.concat(path, F.lit("?"), query))


def _own_host() -> Column:
    """The site asked for, without its port."""
    without_port = F.regexp_replace("host", r":\d+\z", "")
    return F.when(
        ~F.col("host").isin("", "-"), F.when(F.contains("host", F.lit(":")), without_port).otherwise(F.col("host"))
    )


def _as_sent(name: str) -> Column:
    """A header or user as it was sent: IIS writes + for a blank, CloudFront percent signs (once or twice)."""
    text = F.col(name)
    decoded: list[Column] = [text]
    for _ in range(2):
        # url_decode is for forms, where + is a blank.
        form = F.replace(decoded[-1], F.lit("+"), F.lit("%2B"))
        decoded.append(F.coalesce(F.try_url_decode(form), decoded[-1]))
    twice = F.when(F.contains(decoded[1], F.lit("%20")), decoded[2]).otherwise(decoded[1])
    is_percent = F.contains(text, F.lit("%20")) | F.contains(text, F.lit("%2520"))
    is_percent |= ~F.contains(text, F.lit("+")) & F.contains(text, F.lit("%"))
    has_blanks = F.contains(text, F.lit(" "))
    of_w3c = F.when(is_percent, twice).when(has_blanks, text).otherwise(F.translate(text, "+", " "))
    return F.when(F.col("escaping") == W3C, of_w3c).otherwise(_unescaped(name))


def _unescaped(name: str) -> Column:
    """What Apache and nginx wrote with backslashes: a quote as \\" or \\x22, bytes of UTF-8 as \\xC3\\xA9."""
    text: Column = F.col(name)
    percent = text
    for character, code in (("%", "%25"), ("+", "%2B"), ("\\\\", "%5C"), ('\\"', "%22")):
        percent = F.replace(percent, F.lit(character), F.lit(code))
    decoded = F.try_url_decode(F.regexp_replace(percent, r"\\x([\da-fA-F]{2})", "%$1"))
    is_escaped = (F.col("escaping") == BACKSLASH) & F.contains(name, F.lit("\\"))
    # Java's decoder puts U+FFFD in the place of bytes that are no UTF-8.
    is_text = ~F.contains(decoded, F.lit("\ufffd"))
    return F.when(is_escaped & is_text, decoded).otherwise(text)


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
