"""Lines of a web server's log -> requests (dwd_weblog_request), in Spark's own expressions.

Each line is matched once: the groups are joined by a separator and split again, where `regexp_extract` would match once
for every column. Lines that contain the separator take that longer way.
"""

import ipaddress
from collections.abc import Sequence
from datetime import date
from functools import reduce
from operator import or_
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from etl.clock import local_time
from etl.session import PARSE_URL
from etl.weblog.formats import COMBINED
from etl.weblog.templates import BACKSLASH, CELLS, MONTHS, W3C, Format, Formats, JsonFormat, LineFormat

# Method and URL; HTTP/0.9 has no version, and URLs of broken clients have blanks.
REQUEST = r"(?s)^(\S+) (\S.*?)(?: HTTP/\d(?:\.\d)?)?\z"
STATIC_SUFFIXES = (
    *("js", "mjs", "css", "map", "wasm", "woff", "woff2", "ttf", "eot", "otf"),
    *("png", "apng", "jpg", "jpeg", "jfif", "gif", "ico", "cur", "svg", "svgz", "webp", "avif", "jxl", "heic", "bmp"),
    *("tif", "tiff", "mp3", "mp4", "m4a", "m4v", "webm", "ogg", "oga", "ogv", "opus", "wav", "flac", "aac", "mov"),
    *("avi", "m3u8", "vtt", "swf", "webmanifest"),
)
# A URL that java.net.URL takes apart in the same way: no user, no fragment, no /. or /.. to take out of the path.
PLAIN_URL = r"^(?i:https?|ftp)://(?!//)([^/?#:@\[\]\s]*+)(?::\d++)?+((?:/(?!\.)[^/?#\s]*+)*+)(\?[^#\s]*+)?+\z"
_SEPARATOR = "\x01"
# The low 33 bits of monotonically_increasing_id count the rows of a partition; the high ones are the partition.
_ROW_BITS = (1 << 33) - 1
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
        proxies: networks (CIDR) whose word on the client's address is taken, see `_client`.
    """
    too_long = F.octet_length("line") > max_bytes
    # The regular expressions see only valid text of bounded length.
    text = F.when(~too_long & F.is_valid_utf8("line"), F.rtrim(F.col("line")))
    matched = (
        _without_headers(lines, format_sets)
        .select("*", too_long.alias("too_long"), text.alias("text"))
        .transform(_add_cells, format_sets)
    )
    present = _present_cells(format_sets)
    cells = {name: F.try_element_at("cells", F.lit(index)) for index, name in enumerate(present, 1)}
    # Literals, so that Spark drops what would be done with cells that no format has.
    cells |= {name: F.lit("") for name in CELLS if name not in present}
    if all(format.cells & {"escaping"} and not format.is_w3c for format in _distinct(format_sets)):
        cells["escaping"] = F.lit(BACKSLASH)
    named = matched.select("*", *[cell.alias(name) for name, cell in cells.items() if name not in ("date", "zone")])
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
    named = named.withColumns({"written": written, "offset": F.when(F.col("epoch") != "", "+0000").otherwise(offset)})
    # 31 February matches the pattern, but is no timestamp; concat_ws leaves out the month that has no number. Nor are
    # second 60 of other minutes and 24:00:00, which servers do not write.
    timestamp = F.when(F.length("written") == 19, F.col("written").try_cast("timestamp"))
    timed = named.withColumn("requested_at", _to_utc(timestamp, zone))
    time_local = F.col("written")
    if zone is not None:
        time_local = F.date_format(local_time("requested_at", zone), "yyyy-MM-dd HH:mm:ss")
    timed = timed.withColumn("time_local", time_local)
    is_of_calendar = F.substring("time_local", 1, 10).between(first.isoformat(), last.isoformat())
    is_valid_time = F.col("requested_at").isNotNull() & is_of_calendar
    internal = {*CELLS, "cells", "formats", "request_parts", "text", "too_long", "is_valid_time", "written", "offset"}
    return (
        timed.withColumn("request_parts", _split("request_line", REQUEST, [[1], [2]]))
        .withColumn("is_valid_time", is_valid_time)
        .withColumn("reason", _reject_reason(format_sets))
        .withColumn("addr", _client(proxies) if proxies else F.col("addr"))
        .transform(_to_request, static_pattern(static_suffixes))
        .drop(*sorted(internal - {"host", "method"}))
    )


def static_pattern(suffixes: Sequence[str]) -> str:
    """The pattern of a path, in lower case, of a static file: with one of STATIC_SUFFIXES, or of `suffixes`."""
    names = [suffix.lower().lstrip(".") for suffix in (*STATIC_SUFFIXES, *suffixes)]
    return rf"\.({'|'.join(names)})\z"


def position_in_file() -> Column:
    """Order of a line in its file: not its number, but growing."""
    return F.col("block") + F.col("id").bitwiseAND(F.lit(_ROW_BITS))


# --- lines -> cells ---


def _has_format(format: Format, format_sets: Sequence[Formats]) -> Column:
    indexes = [index for index, formats in enumerate(format_sets) if format in formats]
    return F.lit(True) if len(indexes) == len(format_sets) else F.col("formats").isin(indexes)


def _distinct(format_sets: Sequence[Formats]) -> list[Format]:
    return list(dict.fromkeys(format for formats in format_sets for format in formats))


def _present_cells(format_sets: Sequence[Formats]) -> list[str]:
    present = {cell for format in _distinct(format_sets) for cell in format.cells}
    return [cell for cell in CELLS if cell in present]


def _without_headers(lines: DataFrame, format_sets: Sequence[Formats]) -> DataFrame:
    w3c = [format for format in _distinct(format_sets) if format.is_w3c]
    if not w3c:
        return lines
    is_w3c = reduce(or_, [_has_format(format, format_sets) for format in w3c])
    return lines.where(~(is_w3c & F.startswith("line", F.lit("#"))))


def _add_cells(lines: DataFrame, format_sets: Sequence[Formats]) -> DataFrame:
    """Add `cells`: the texts of `_present_cells` by the first of a line's formats that it has, else one text."""
    rows, names = lines, _present_cells(format_sets)
    for number, format in enumerate(_distinct(format_sets)):
        if isinstance(format, JsonFormat):
            # A column of its own: Spark parses the document once for all that is taken out of it.
            document = F.when(F.startswith("text", F.lit("{")), F.col("text"))
            rows = rows.withColumn("document", F.from_json(document, _schema(format)))
            cells = _json_cells(format, names)
        else:
            cells = _split("text", format.pattern, [format.recipe(cell) for cell in names])
        is_open = (
            _has_format(format, format_sets) & (F.size("cells") < 2) if number else _has_format(format, format_sets)
        )
        rows = rows.withColumn("cells", F.when(is_open, cells).otherwise(F.col("cells") if number else F.array("text")))
    return rows.drop("document") if rows is not lines else rows.withColumn("cells", F.array("text"))


def _split(name: str, pattern: str, recipes: Sequence[Sequence[int | str]]) -> Column:
    """Texts put together from the groups of the match, in one array; an array of one when the text does not match.

    Args:
        name: the column to match.
        pattern: a pattern for a whole text.
        recipes: for each element of the array the numbers of groups and the literals that it is made of.
    """
    text = F.col(name)
    replacement = _SEPARATOR.join("".join(f"${part}" if isinstance(part, int) else part for part in r) for r in recipes)
    joined = F.regexp_replace(text, pattern, replacement)
    one_by_one = F.array(
        *[
            F.concat(
                F.lit(""),
                *[F.regexp_extract(text, pattern, part) if isinstance(part, int) else F.lit(part) for part in recipe],
            )
            for recipe in recipes
        ]
    )
    has_separator = F.contains(text, F.lit(_SEPARATOR))
    # -1: empty groups at the end stay.
    return F.when(~has_separator, F.split(joined, _SEPARATOR, -1)).otherwise(
        F.when(F.rlike(text, F.lit(pattern)), one_by_one).otherwise(F.array(text))
    )


def _schema(format: JsonFormat) -> T.StructType:
    """The part of a document that is read. Leaves are texts: of numbers as they are written, of objects their JSON."""
    tree: dict[str, Any] = {}
    for path in (path for paths in format.paths.values() for path in paths):
        node = tree
        for key in path.split("."):
            node = node.setdefault(key, {})

    def to_type(node: dict[str, Any]) -> T.DataType:
        if not node:
            return T.StringType()
        if all(key.isdigit() for key in node):
            return T.ArrayType(to_type({key: value for child in node.values() for key, value in child.items()}))
        return T.StructType([T.StructField(key, to_type(child)) for key, child in node.items()])

    schema = to_type(tree)
    assert isinstance(schema, T.StructType)
    return schema


def _json_cells(format: JsonFormat, names: Sequence[str]) -> Column:
    def value(cell: str) -> Column:
        columns = []
        for path in format.paths.get(cell, ()):
            column = F.col("document")
            for key in path.split("."):
                column = F.get(column, F.lit(int(key))) if key.isdigit() else column.getField(key)
            columns.append(column)
        return F.coalesce(*columns, F.lit(None).cast("string"))

    code = F.when(F.rlike(value("code"), F.lit(r"^\d{1,3}\z")), F.lpad(value("code"), 3, "0"))
    cells = {cell: value(cell) for cell in CELLS} | _time_cells(value("stamp")) | {"code": code}
    is_request = cells["addr"].isNotNull() & value("stamp").isNotNull() & code.isNotNull()
    has_url = cells["url"].isNotNull() | cells["request_line"].isNotNull()
    texts = F.array(*[F.coalesce(cells[cell], F.lit("")) for cell in names])
    return F.when(is_request & has_url, texts).otherwise(F.array("text"))


def _time_cells(stamp: Column) -> dict[str, Column]:
    """Date, time, zone and epoch of a time that is written in ISO 8601, as in the common format, or as a number."""
    iso = r"^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,]\d+)?(Z|[+-]\d\d:?\d\d|)\z"
    common = r"^\[?(\d\d)/(\w{3})/(\d{4}):(\d\d:\d\d:\d\d)( [+-]\d{4}|)\]?\z"
    number = stamp.try_cast("double")
    # Seconds, milliseconds, microseconds or nanoseconds: of the years to come only one of them.
    seconds = (
        F.when(number < 1e11, number)
        .when(number < 1e14, number / 1e3)
        .when(number < 1e17, number / 1e6)
        .otherwise(number / 1e9)
    )
    is_iso, is_common = F.rlike(stamp, F.lit(iso)), F.rlike(stamp, F.lit(common))
    day = F.concat_ws("-", *[F.regexp_extract(stamp, common, group) for group in (3, 2, 1)])
    parts = {
        "date": (F.regexp_extract(stamp, iso, 1), day),
        "time": (F.regexp_extract(stamp, iso, 2), F.regexp_extract(stamp, common, 4)),
        "zone": (F.regexp_extract(stamp, iso, 3), F.regexp_extract(stamp, common, 5)),
    }
    return {
        **{name: F.when(is_iso, of_iso).when(is_common, of_common) for name, (of_iso, of_common) in parts.items()},
        "epoch": F.when(F.rlike(stamp, F.lit(r"^\d+(\.\d+)?([eE]\+?\d+)?\z")), seconds.cast("string")),
    }


# --- cells -> columns ---


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


def _client(proxies: Sequence[str]) -> Column:
    """The right-most address that is no trusted proxy's, of those in `forwarded` and that of the connection.

    Each proxy appends the address that it was asked from. What stands left of the first address that is not trusted
    may have been made up by the client.
    """
    hops = F.array_append(F.split("forwarded", r"\s*,\s*"), F.col("addr"))
    # Some proxies add the port: 1.2.3.4:5678, [2001:db8::1]:5678.
    bare = F.transform(
        hops, lambda hop: F.regexp_replace(hop, r"^\s*(?:\[([^\]]*)\]|(\d+\.\d+\.\d+\.\d+))(?::\d+)?\s*\z", "$1$2")
    )
    addresses = F.filter(bare, lambda hop: _sortable(hop).isNotNull())
    clients = F.filter(addresses, lambda hop: ~_is_within(_sortable(hop), proxies))
    of_connection = F.col("addr")
    is_proxy = F.coalesce(_is_within(_sortable(of_connection), proxies), F.lit(False))
    return (
        F.when(~is_proxy, of_connection)
        .when(F.size(clients) > 0, F.try_element_at(clients, F.lit(-1)))
        .otherwise(F.try_element_at(addresses, F.lit(1)))
    )


def _is_within(address: Column, networks: Sequence[str]) -> Column:
    ranges = [ipaddress.ip_network(network, strict=False) for network in networks]
    return reduce(
        or_,
        [
            (F.length(address) == len(network.network_address.packed) * 2)
            & address.between(network.network_address.packed.hex(), network.broadcast_address.packed.hex())
            for network in ranges
        ],
    )


def _sortable(address: Column) -> Column:
    """An address as hexadecimal digits, 8 of IPv4 and 32 of IPv6; null for anything else."""
    v4 = F.regexp_extract(address, r"^(?:::ffff:)?(\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3})\z", 1)
    octets = F.transform(F.split(v4, r"\."), lambda octet: F.lpad(F.lower(F.hex(octet.try_cast("bigint"))), 2, "0"))

    def groups(part: Column) -> Column:
        texts = F.filter(F.split(part, ":"), lambda text: text != "")
        return F.array_join(F.transform(texts, lambda text: F.lpad(F.lower(text), 4, "0")), "")

    head, rest = groups(F.substring_index(address, "::", 1)), groups(F.substring_index(address, "::", -1))
    zeros = F.repeat(F.lit("0"), F.greatest(F.lit(0), F.lit(32) - F.length(head) - F.length(rest)))
    full = F.when(F.contains(address, F.lit("::")), F.concat(head, zeros, rest)).otherwise(head)
    is_v6 = F.rlike(address, F.lit(r"^(?=.*:)[\da-fA-F:]{2,39}\z")) & (F.length(full) == 32)
    return F.when(v4 != "", F.array_join(octets, "")).when(is_v6, full)


def _to_request(rows: DataFrame, static: str) -> DataFrame:
    """Cells of the matched line -> the columns of the tables."""
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
            "host": F.coalesce(_own_host(), folder),
            "ref_url": F.when(~F.col("referer").isin("", "-"), F.replace("referer", F.lit('"'), F.lit(""))),
            "datestr": F.replace(F.substring("time_local", 1, 10), F.lit("-"), F.lit("")),
        }
    )
    with_parts = with_request.withColumn("ref_parts", _split("ref_url", PLAIN_URL, [[1], [2], [3]]))
    page = F.substring_index("request", "?", 1)
    is_static = F.rlike(F.lower(page), F.lit(static))
    is_valid = F.col("has_url") & (F.col("status") < "400") & ~is_static
    return (
        with_parts.withColumns(
            {
                # Text, as Hive's scripts of old compare it.
                "valid": F.when(is_valid, "true").otherwise("false"),
                **_referrer_columns(),
                "bytes": F.col("body_bytes_sent").try_cast("bigint"),
                "position": position_in_file(),
                "page_key": F.xxhash64(page),
                "referrer_key": F.xxhash64("http_referer"),
                "agent_key": F.xxhash64("http_user_agent"),
            }
        )
        .drop("ref_url", "ref_parts", "has_url")
        .transform(_add_time_columns)
    )


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


def _reject_reason(format_sets: Sequence[Formats]) -> Column:
    # The costly match of a second pattern is only for lines that failed the first.
    has_other_time = F.size("cells") > 1
    for format in _distinct(format_sets):
        if isinstance(format, LineFormat):
            has_other_time |= _has_format(format, format_sets) & F.rlike("text", F.lit(format.pattern_of_any_time))
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
