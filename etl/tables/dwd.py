"""DWD: cleaned facts."""

from etl.table import InRange, NotNull, OneOf, Table, columns

impression = Table(
    name="dwd_impression",
    description="One row per item shown to a user, with what came of it",
    key=("impression_id",),
    columns=columns(
        ("impression_id", "string", "identifies the showing"),
        ("request_id", "string", "the list that the item was shown in"),
        ("user_id", "string", "who saw it"),
        ("item_id", "string", "what was shown"),
        ("position", "int", "place in the list, from 1"),
        ("device", "string", "phone, tablet or desktop"),
        ("shown_at", "timestamp", "when, UTC"),
        ("is_clicked", "int", "1 if a click followed, else 0"),
    ),
    checks=(NotNull(("user_id", "item_id", "shown_at")), InRange("position", 1), InRange("is_clicked", 0, 1)),
)

interaction = Table(
    name="dwd_interaction",
    description="One row per act of a user on an item: click, like, purchase or rating",
    key=("event_id",),
    columns=columns(
        ("event_id", "string", "identifies the act"),
        ("user_id", "string", "who acted"),
        ("item_id", "string", "on what"),
        ("action", "string", "click, like, purchase or rating"),
        ("value", "double", "rating or amount; 1 where the act has none"),
        ("impression_id", "string", "the showing that it followed, null when unknown"),
        ("acted_at", "timestamp", "when, UTC"),
    ),
    checks=(
        NotNull(("user_id", "item_id", "acted_at")),
        OneOf("action", ("click", "like", "purchase", "rating")),
    ),
)
