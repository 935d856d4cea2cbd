"""ODS: data as received."""

from etl.table import NotNull, OneOf, Table, columns

_VALID = ("valid", "string", "'true' for a request that counts, 'false' for one logically deleted")

weblog_origin = Table(
    name="ods_weblog_origin",
    description="One row per parsed line of a web server's log, as received",
    partition="datestr",
    columns=columns(
        _VALID,
        ("remote_addr", "string", "address of the client"),
        ("remote_user", "string", "user of HTTP authentication, '-' for none"),
        ("time_local", "string", "time of the request in the log's own offset, yyyy-MM-dd HH:mm:ss"),
        ("request", "string", "URL with its query; the raw request text where that has no URL"),
        ("status", "string", "HTTP status"),
        ("body_bytes_sent", "string", "bytes of the body, '-' for none"),
        ("http_referer", "string", "referring URL, '-' for none"),
        ("http_user_agent", "string", "user agent, '-' for none"),
    ),
    checks=(NotNull(("valid", "remote_addr", "time_local")), OneOf("valid", ("true", "false"))),
)

weblog_detail = Table(
    name="ods_weblog_detail",
    description="One row per parsed line of a web server's log, widened by the parts of time and referrer",
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
)

quarantine = Table(
    name="ods_quarantine",
    description="One row per received line that could not be read, with its reason and place; nothing is dropped",
    columns=columns(
        ("stage", "string", "stage that refused the line: weblog or events"),
        ("reason", "string", "not_combined_format, too_long, invalid_utf8, bad_time, not_json, missing_field …"),
        ("file", "string", "file that holds the line"),
        ("line_number", "bigint", "line in that file, from 1"),
        ("line", "string", "the line, cut to its first 4096 characters"),
    ),
    checks=(NotNull(("stage", "reason", "file", "line_number")),),
)
