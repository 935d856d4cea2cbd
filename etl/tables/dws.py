"""DWS, the summary layer: aggregates and intermediate results."""

from etl.table import InRange, NotNull, Table, columns
from etl.tables.ods import VISITOR_ID

recall_candidate = Table(
    name="dws_recall_candidate",
    description="One row per user and candidate item of recall, for the lists served after the day",
    key=("user_id", "item_id"),
    columns=columns(
        ("user_id", "string", "the user"),
        ("item_id", "string", "the candidate item"),
        ("channels", "string", "recall channels that proposed it, best first, joined by +"),
        ("score", "double", "merged score, larger is better"),
        ("rank", "int", "rank among the user's candidates, from 1"),
    ),
    checks=(NotNull(("channels", "score")), InRange("rank", 1)),
)

# What the next day needs of this one: it continues these visits without reading the day's page views again.
open_visit = Table(
    name="dws_open_visit",
    description="One row per visit that may go on after the end of the day: its last view is in the last 30 minutes",
    partition="datestr",
    key=("session",),
    columns=columns(
        ("session", "string", "identifies the visit: visitor, site if any, and time of its first view"),
        ("remote_addr", "string", "address of the first view"),
        ("inTime", "string", "time of the first view"),
        ("inPage", "string", "first URL"),
        ("referal", "string", "referrer of the first view"),
        ("outTime", "string", "time of the last view until the end of the day"),
        ("outPage", "string", "URL of that view"),
        ("pageVisits", "bigint", "page views until then"),
        ("out_at", "timestamp", "time of that view, UTC"),
        VISITOR_ID,
        ("site", "string", "site of the visit by weblog.site_from; null without that setting, and for none"),
    ),
    checks=(NotNull(("outTime",)),),
)

user_interest = Table(
    name="dws_user_interest",
    description="One row per user and topic among their impressions: how much the user is interested in it",
    key=("user_id", "tag"),
    columns=columns(
        ("user_id", "string", "the user"),
        ("tag", "string", "the topic"),
        ("shown", "bigint", "impressions of the topic's items for the user"),
        ("clicks", "bigint", "clicks on these impressions"),
        ("rate", "double", "click rate, smoothed towards that of all users and topics"),
        (
            "interest",
            "double",
            "coefficient of a logistic regression: over 0 means more clicks than others'",
        ),
        ("rank", "int", "rank among the user's topics by interest, from 1"),
    ),
    checks=(NotNull(("rate", "interest")), InRange("shown", 1), InRange("rank", 1)),
)
