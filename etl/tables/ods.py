"""ODS, the raw layer: data as received."""

from etl.table import InRange, NotNull, OneOf, Table, columns

# Text in place of a boolean, as the requirements' own queries compare it.
_VALID = ("valid", "string", "'true' for a request that counts, 'false' for one logically deleted")

# Beside the address, which most are told apart by; declared last in older tables, whose columns can only be added to.
VISITOR_ID = ("visitor_id", "string", "who the visitor is by weblog.visitor_key: the address, where that says no other")

weblog_origin = Table(
    name="ods_weblog_origin",
    description="One row per parsed line of a web server's log, as received",
    partition="datestr",
    columns=columns(
        _VALID,
        ("remote_addr", "string", "address of the client"),
        ("remote_user", "string", "user of HTTP authentication, '-' for none"),
        ("time_local", "string", "time of the request by the log's own clock or in site.timezone, yyyy-MM-dd HH:mm:ss"),
        ("request", "string", "URL with its query; the raw request text where that has no URL"),
        ("status", "string", "HTTP status"),
        # As received: dwd_weblog_request has it as a number.
        ("body_bytes_sent", "string", "bytes of the body, '-' for none"),
        ("http_referer", "string", "referring URL, '-' for none"),
        ("http_user_agent", "string", "user agent, '-' for none"),
    ),
    checks=(NotNull(("valid", "remote_addr", "time_local")), OneOf("valid", ("true", "false"))),
    files_of="dwd_weblog_request",
)

# Columns have the names of the requirements, which users' queries are written for: `referal`, `inTime` below, too.
weblog_detail = Table(
    name="ods_weblog_detail",
    description="One row per parsed line of a web server's log, with the parts of its time and referrer",
    partition="datestr",
    columns=columns(
        _VALID,
        ("remote_addr", "string", "address of the client"),
        ("remote_user", "string", "user of HTTP authentication, '-' for none"),
        ("time_local", "string", "time of the request, yyyy-MM-dd HH:mm:ss"),
        ("daystr", "string", "yyyy-MM-dd of time_local"),
        ("timestr", "string", "HH:mm:ss of time_local"),
        ("month", "string", "MM of time_local"),
        ("day", "string", "dd of time_local"),
        ("hour", "string", "HH of time_local"),
        ("request", "string", "URL with its query"),
        ("status", "string", "HTTP status"),
        ("body_bytes_sent", "string", "bytes of the body, '-' for none"),
        ("http_referer", "string", "referring URL, '-' for none"),
        ("ref_host", "string", "host of the referrer, null for none"),
        ("ref_path", "string", "path of the referrer"),
        ("ref_query", "string", "query of the referrer"),
        ("ref_query_id", "string", "parameter `id` of the referrer's query"),
        ("http_user_agent", "string", "user agent, '-' for none"),
    ),
    checks=(NotNull(("valid", "remote_addr", "hour")), OneOf("valid", ("true", "false"))),
    files_of="dwd_weblog_request",
)

click_stream_pageviews = Table(
    name="ods_click_stream_pageviews",
    description="One row per page view (valid request) with its position in a visit",
    partition="datestr",
    columns=columns(
        (
            "session",
            "string",
            "identifies the visit: visitor, site if any, local time of its first view with its offset unless that is 0",
        ),
        ("remote_addr", "string", "address of the client"),
        ("time_local", "string", "time of the view, yyyy-MM-dd HH:mm:ss"),
        ("visit_step", "int", "position in the visit, from 1; counts on over midnight"),
        ("request", "string", "URL with its query"),
        ("stay_time", "bigint", "seconds to the next view of the visit on the same day, null for the last"),
        ("http_referer", "string", "referring URL, '-' for none"),
        ("ref_host", "string", "host of the referrer, null for none"),
        ("http_user_agent", "string", "user agent, '-' for none"),
        ("body_bytes_sent", "string", "bytes of the body, '-' for none"),
        ("status", "string", "HTTP status"),
        ("is_human", "int", "0 for HEAD requests and for crawlers, feed readers and monitors, else 1"),
        ("requested_at", "timestamp", "time of the view, UTC"),
        VISITOR_ID,
        ("site", "string", "site of the visit by weblog.site_from; null without that setting, and for none"),
    ),
    checks=(
        NotNull(("session", "remote_addr", "time_local", "visit_step")),
        InRange("visit_step", 1),
        InRange("stay_time", 0),
        InRange("is_human", 0, 1),
    ),
)

click_stream_visit = Table(
    name="ods_click_stream_visit",
    description=(
        "One row per visit, on the day that it began: a visitor's page views (of a site), no gap over 30 minutes"
    ),
    partition="datestr",
    key=("session",),
    columns=columns(
        ("session", "string", "identifies the visit: visitor, site if any, and time of its first view"),
        ("remote_addr", "string", "address of the first view"),
        ("inTime", "string", "time of the first view"),
        ("outTime", "string", "time of the last view, which may be after midnight"),
        ("inPage", "string", "first URL"),
        ("outPage", "string", "last URL"),
        ("referal", "string", "referrer of the first view, '-' for none"),
        ("pageVisits", "bigint", "page views"),
        VISITOR_ID,
        ("site", "string", "site of the visit by weblog.site_from; null without that setting, and for none"),
    ),
    checks=(NotNull(("remote_addr", "inTime", "outTime")), InRange("pageVisits", 1)),
)

quarantine = Table(
    name="ods_quarantine",
    description="One row per received line that could not be parsed, with its reason and place; no line is dropped",
    columns=columns(
        ("stage", "string", "stage that refused the line: weblog, events, ingest, covers or features"),
        (
            "reason",
            "string",
            "not_combined_format (or another one), too_long, invalid_utf8, bad_time, missing_field, bad_feature …",
        ),
        ("file", "string", "file that contains the line, or partition of the row"),
        ("line_number", "bigint", "line in that file, from 1; 0 for a row of a table"),
        ("line", "string", "the line, cut to its first 4096 characters"),
        ("column_name", "string", "column at fault, by its name in the file; null where it is the whole line"),
    ),
    checks=(NotNull(("stage", "reason", "file", "line_number")),),
)
