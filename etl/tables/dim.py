"""DIM: dimensions, a whole snapshot in each partition."""

from etl.table import MinRows, Table, columns

user = Table(
    name="dim_user",
    description="One row per user, as of the day",
    key=("user_id",),
    columns=columns(
        ("user_id", "string", "identifies the user"),
        ("gender", "string", "F, M or null"),
        ("age_group", "string", "18-24, 25-34, 35-44, 45-54, 55+ or null"),
        ("city", "string", "home city or occupation group, null when unknown"),
        ("registered_at", "timestamp", "when the account was made"),
    ),
    checks=(MinRows(1),),
)

item = Table(
    name="dim_item",
    description="One row per item, as of the day",
    key=("item_id",),
    columns=columns(
        ("item_id", "string", "identifies the item"),
        ("title", "string", "name shown"),
        ("category", "string", "topic or genre"),
        ("author", "string", "who made it, null when unknown"),
        ("published_at", "timestamp", "when it appeared"),
    ),
    checks=(MinRows(1),),
)

feature_index = Table(
    name="dim_feature_index",
    description="One row per feature with the index it keeps for ever; new features are appended",
    key=("feature",),
    columns=columns(
        ("feature", "string", "name of the feature"),
        ("index", "int", "its place, never changed"),
        ("kind", "string", "sparse or dense"),
        ("definition", "string", "source and transform; a change is refused"),
        ("description", "string", "what it says"),
    ),
)
