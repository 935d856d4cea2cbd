"""DIM, the dimensions: each partition is a whole snapshot."""

from etl.table import SCOPE, Column, InRange, MinRows, NotNull, OneOf, Table, columns
from etl.tables.ods import VISITOR_ID

# Users and items: an import replaces the day's partition; jobs read the newest one up to their day.
user = Table(
    name="dim_user",
    description="One row per user, as of the day",
    key=("user_id",),
    columns=columns(
        ("user_id", "string", "identifies the user"),
        ("gender", "string", "F, M or null"),
        ("age_group", "string", "18-24, 25-34, 35-44, 45-54, 55+ or null"),
        ("city", "string", "home city or occupation group, null when unknown"),
        ("registered_at", "timestamp", "when the account was created"),
        Column(
            "attributes", "map<string,string>", "other columns of the source, as text; null for none", is_optional=True
        ),
    ),
    checks=(MinRows(1),),
)

item = Table(
    name="dim_item",
    description="One row per item, as of the day",
    key=("item_id",),
    columns=columns(
        ("item_id", "string", "identifies the item"),
        ("title", "string", "title shown to users"),
        ("category", "string", "topic or genre; the first of `categories` where there are several"),
        ("author", "string", "author, null when unknown"),
        ("published_at", "timestamp", "when it was published"),
        Column(
            "categories",
            "array<string>",
            "all topics or genres, null where the source has one at most",
            is_optional=True,
        ),
        Column(
            "attributes", "map<string,string>", "other columns of the source, as text; null for none", is_optional=True
        ),
    ),
    checks=(MinRows(1),),
)

# Trained models address features by index: one that moved or changed its meaning would spoil them silently.
feature_index = Table(
    name="dim_feature_index",
    description="One row per feature with its index, which never changes; new features are appended",
    key=("feature",),
    columns=columns(
        ("feature", "string", "name of the feature"),
        ("index", "int", "position in the feature vector, never changed"),
        ("kind", "string", "sparse or dense"),
        ("definition", "string", "source and transform; `features build` refuses a change"),
        ("description", "string", "meaning of the feature"),
    ),
)

date = Table(
    name="dim_date",
    description="One row per calendar day from weblog.first_day to weblog.last_day",
    partition=SCOPE,
    key=("date_key",),
    columns=columns(
        ("date_key", "int", "yyyymmdd"),
        ("date", "date", "the day"),
        ("year", "int", "year"),
        ("quarter", "int", "1 to 4"),
        ("month", "int", "1 to 12"),
        ("day", "int", "day of the month"),
        ("week", "int", "ISO week"),
        ("weekday", "int", "1 for Monday to 7 for Sunday"),
        ("is_weekend", "int", "1 on Saturday and Sunday, else 0"),
    ),
    checks=(MinRows(365),),
)

time = Table(
    name="dim_time",
    description="One row per minute of the day",
    partition=SCOPE,
    key=("time_key",),
    columns=columns(
        ("time_key", "int", "hour * 100 + minute"),
        ("hour", "int", "0 to 23"),
        ("minute", "int", "0 to 59"),
        ("part_of_day", "string", "night, morning, afternoon or evening"),
    ),
    checks=(InRange("hour", 0, 23), InRange("minute", 0, 59), MinRows(1440)),
)

# Keys are hashes and not numbers given out in order: every day computes the same key without reading another day.
page = Table(
    name="dim_page",
    description="One row per page (URL without its query) requested on the day",
    partition="datestr",
    key=("page_key",),
    columns=columns(
        ("page_key", "bigint", "xxhash64 of the page"),
        ("page", "string", "path of the URL"),
        ("section", "string", "first part of the path, / for the top"),
        ("is_static", "int", "1 for scripts, styles, images and fonts, else 0"),
    ),
    checks=(NotNull(("page",)),),
)

referrer = Table(
    name="dim_referrer",
    description="One row per referring URL of the day, with its host and, from a search engine, the search words",
    partition="datestr",
    key=("referrer_key",),
    columns=columns(
        ("referrer_key", "bigint", "xxhash64 of the URL"),
        ("http_referer", "string", "referring URL, '-' for none"),
        ("ref_host", "string", "its host, null for none"),
        ("search_engine", "string", "google, baidu, bing …, null for other hosts"),
        ("search_words", "string", "words of the search, null when the URL does not contain them"),
    ),
)

user_agent = Table(
    name="dim_user_agent",
    description="One row per user agent of the day",
    partition="datestr",
    key=("agent_key",),
    columns=columns(
        ("agent_key", "bigint", "xxhash64 of the text"),
        ("http_user_agent", "string", "as received, '-' for none"),
        ("is_crawler", "int", "1 for known crawlers, feed readers and monitors, else 0"),
        ("browser", "string", "family, null when unknown"),
        ("os", "string", "family, null when unknown"),
        ("device", "string", "family, null when unknown"),
    ),
    checks=(InRange("is_crawler", 0, 1),),
)

visitor = Table(
    name="dim_visitor",
    description="One row per visitor with a page view up to the day",
    partition="datestr",
    key=("visitor_id",),
    columns=columns(
        ("remote_addr", "string", "address of the last page view"),
        # Text as in the log, in the server's own time zone: the web-log tables never convert it.
        ("first_seen", "string", "time of the first page view, yyyy-MM-dd HH:mm:ss"),
        ("last_seen", "string", "time of the last page view up to the day"),
        VISITOR_ID,
        ("visitor_key", "string", "weblog.visitor_key of the snapshot: one for all of its rows and of those before it"),
    ),
    checks=(NotNull(("first_seen", "last_seen")),),
)

area = Table(
    name="dim_area",
    description="One row per address with a page view on the day, with its area, when weblog.area_table is given",
    partition="datestr",
    key=("remote_addr",),
    columns=columns(
        ("remote_addr", "string", "address of page views"),
        ("area", "string", "area of the smallest network that contains the address, null for none"),
    ),
)

# Written again when a promotion or a rollback changes `part`; the run folders are the source.
model = Table(
    name="dim_model",
    description="One row per finished run of a model of the day, with its inputs, code version and metrics",
    key=("run_id",),
    columns=columns(
        ("run_id", "string", "the run: folder runs/<run_id>"),
        ("model", "string", "fm, lightgbm, deepfm, recommend …"),
        ("part", "string", "champion, was champion or rolled back; empty for a run that was not promoted"),
        ("trained_at", "timestamp", "when the run ended, UTC"),
        ("data_from", "string", "first partition of the model's training data"),
        ("data_to", "string", "last partition of the model's training data"),
        ("features", "string", "version of the feature index"),
        ("dataset", "string", "version of the data set it read"),
        ("code_version", "string", "version of Millrace and commit"),
        ("metrics", "string", "metrics of the test rows, or of the lists of the day, as JSON"),
        ("inputs", "string", "inputs of the run, as JSON: versions of data sets with their partitions, other runs"),
    ),
    checks=(NotNull(("model", "trained_at")), OneOf("part", ("", "champion", "was champion", "rolled back"))),
)
