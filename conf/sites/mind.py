"""MIND, news with lists of what was shown: the folder of behaviors.tsv and news.tsv (packed or not)."""

from conf.site import Category, Cross, Files, Impressions, Items, Site, Text

SITE = Site(
    name="mind",
    items=Items(
        Files(
            "news.tsv*",
            header=(
                "news",
                "category",
                "subcategory",
                "title",
                "abstract",
                "url",
                "title_entities",
                "abstract_entities",
            ),
            separator="tab",
            quote="none",
        ),
        key="news",
        title="title",
        category="category",
        columns={"subcategory": Category(buckets=4096), "abstract": Text()},
    ),
    impressions=Impressions(
        Files(
            "behaviors.tsv*",
            header=("request", "user", "at", "history", "shown"),
            separator="tab",
            quote="none",
            time_format="M/d/yyyy h:mm:ss a",
        ),
        user="user",
        item="shown",
        separator=" ",
        at="at",
        request="request",
    ),
    features=[Cross(("user_id", "item_subcategory"))],
)
