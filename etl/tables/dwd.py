"""DWD, the detail layer: cleaned facts."""

from etl.table import Column, InRange, NotNull, References, Table, columns
from etl.tables import dim, ods
from etl.tables.ods import VISITOR_ID

CONTEXT = Column(
    "context", "map<string,string>", "other columns of an ingested file, as text; null for none", is_optional=True
)

PROPENSITY = Column(
    "propensity",
    "double",
    "probability, above 0, that the site showed this item to this user at this place; null where it does not log it",
    is_optional=True,
)

# Training rows come from here: an impression is an example, `is_clicked` its label.
impression = Table(
    name="dwd_impression",
    description="One row per impression: an item shown to a user, and whether it was clicked",
    key=("impression_id",),
    columns=columns(
        ("impression_id", "string", "identifies the impression"),
        ("request_id", "string", "identifies the request whose list showed the item"),
        ("user_id", "string", "user who saw the item"),
        ("item_id", "string", "item shown"),
        ("position", "int", "position in the list, from 1"),
        ("device", "string", "phone, tablet or desktop"),
        ("shown_at", "timestamp", "time of the impression, UTC"),
        ("is_clicked", "int", "1 if a click followed, else 0"),
        # What the model saw then, in the names of features/catalog.py: later data can't leak into it.
        ("features", "map<string,double>", "feature values logged at serving time, null for none"),
        CONTEXT,
        PROPENSITY,
    ),
    checks=(
        NotNull(("user_id", "item_id", "shown_at")),
        InRange("position", 1),
        InRange("is_clicked", 0, 1),
        InRange("propensity", 0, 1),
    ),
)

interaction = Table(
    name="dwd_interaction",
    description="One row per interaction of a user with an item: click, like, purchase, rating or one of an own name",
    key=("event_id",),
    columns=columns(
        ("event_id", "string", "identifies the interaction"),
        ("user_id", "string", "the user"),
        ("item_id", "string", "the item"),
        ("action", "string", "click, like, purchase, rating, or as an ingested file calls it"),
        ("value", "double", "rating or amount; 1 where the interaction has none"),
        ("impression_id", "string", "impression that it followed, null when unknown"),
        ("acted_at", "timestamp", "time of the interaction, UTC"),
        CONTEXT,
    ),
    checks=(NotNull(("user_id", "item_id", "action", "acted_at")),),
)

served = Table(
    name="dwd_served",
    description="One row per item of a list that the server has answered with, shown or not: by which model, with "
    "which features",
    key=("request_id", "position"),
    columns=columns(
        ("request_id", "string", "identifies the request"),
        ("impression_id", "string", "identifies the impression, if the item was shown"),
        ("kind", "string", "recommend, or rank for items that the request named"),
        ("user_id", "string", "user of the request"),
        ("item_id", "string", "the item"),
        ("position", "int", "position in the list, from 1"),
        ("score", "double", "click probability by the stack, null on the lowest rungs"),
        ("propensity", "double", "probability that the item came to this position: 1 but for explored lists"),
        ("model", "string", "run that the lists are of"),
        ("rung", "string", "last step of the ladder: deep, mf, fine, coarse, merged or hot"),
        ("experiment", "string", "name of the experiment, null without one"),
        ("arm", "string", "the user's arm, null without an experiment"),
        ("scene", "string", "place of the list, null where the request names none"),
        ("device", "string", "phone, tablet or desktop, null where the request names none"),
        ("served_at", "timestamp", "moment of the answer, UTC"),
        ("at", "timestamp", "moment that the list is of, UTC: that of the answer, or one that the request names"),
        ("features", "map<string,double>", "values that the item was ranked by, null for none"),
    ),
    checks=(NotNull(("item_id", "served_at")), InRange("position", 1), InRange("propensity", 0, 1)),
)

# The one set of files of three tables: ods_weblog_origin and ods_weblog_detail read fewer columns of it.
weblog_request = Table(
    name="dwd_weblog_request",
    description="One row per parsed line of a web server's log: the fact of a star schema, with its dimensions' keys",
    partition="datestr",
    columns=columns(
        *[(column.name, column.type, column.comment) for column in ods.weblog_detail.columns],
        ("method", "string", "GET, HEAD, POST …, null where the request has none"),
        ("bytes", "bigint", "bytes of the body, null for none"),
        (
            "host",
            "string",
            "site asked for where the format has it, else the server named by the landing folder; null for none",
        ),
        ("file", "string", "file that the line was read from"),
        ("position", "bigint", "order of the line in its file; not its line number"),
        ("date_key", "int", "dim_date"),
        ("time_key", "int", "dim_time"),
        # Dimensions of a day: joined by key and datestr.
        ("page_key", "bigint", "dim_page, same datestr"),
        ("referrer_key", "bigint", "dim_referrer, same datestr"),
        ("agent_key", "bigint", "dim_user_agent, same datestr"),
        # Gaps and stays are of these: a day's clock is set forward and back.
        ("requested_at", "timestamp", "time of the request, UTC"),
        VISITOR_ID,
        ("site", "string", "site of the request by weblog.site_from; null without that setting, and for none"),
    ),
    checks=(
        # Both narrow tables' checks, each once: they share this table's files and are never written themselves.
        *dict.fromkeys((*ods.weblog_origin.checks, *ods.weblog_detail.checks)),
        InRange("bytes", 0),
        References("date_key", dim.date, "date_key"),
        References("time_key", dim.time, "time_key"),
        References("page_key", dim.page, "page_key"),
        References("referrer_key", dim.referrer, "referrer_key"),
        References("agent_key", dim.user_agent, "agent_key"),
    ),
)
