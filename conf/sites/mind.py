"""MIND, news with lists of what was shown: the folder of behaviors.tsv and news.tsv (packed or not)."""

from conf.site import Category, Cross, Files, Impressions, Items, Site

NEWS = ("news", "category", "subcategory", "title", "abstract", "url", "title_entities", "abstract_entities")
BEHAVIORS = ("request", "user", "at", "history", "shown")


def _tsv(pattern: str, header: tuple[str, ...]) -> Files:
    return Files(pattern, header=header, separator="tab", quote="none", time_format="M/d/yyyy h:mm:ss a")


SITE = Site(
    name="mind",
    items=Items(
        _tsv("news.tsv*", NEWS),
        key="news",
        title="title",
        category="category",
        columns={"subcategory": Category(buckets=4096)},
    ),
    impressions=Impressions(
        _tsv("behaviors.tsv*", BEHAVIORS), user="user", item="shown", separator=" ", at="at", request="request"
    ),
    features=[Cross(("user_id", "item_subcategory"))],
)
