"""Which features depend on the item, and which on nothing else: what the towers of retrieval models may read."""

import re
from typing import Literal

from conf.site.features import Feature
from features.catalog import OWN_COLUMNS, OWN_GROUPS, names_in

_ITEM = frozenset({"item_id", "category", "author", "published_at", *OWN_COLUMNS.names("item")})
_OTHER = frozenset(
    {
        *("user_id", "gender", "age_group", "city", "device", "at"),
        *OWN_COLUMNS.names("user"),
        *OWN_COLUMNS.names("context"),
    }
)
# Counts of items change from day to day, and the position is known only once there is a list.
_BOTH = re.compile(r"(item|category|user_category)_(shown|clicks|expected|share)|position")


def depends_on_item(feature: Feature) -> bool:
    """Whether other items give other values, alone or together with the user: no tower of users may read it."""
    return bool({"item", "both"} & _sides(feature))


def is_item_only(feature: Feature) -> bool:
    """Whether it is the same for all users and moments: what a tower of items may read."""
    return _sides(feature) == {"item"}


def _sides(feature: Feature) -> set[Literal["item", "both", "other"]]:
    return {side for name in names_in(feature.source) if (side := _side(name)) is not None}


def _side(column: str) -> Literal["item", "both", "other"] | None:
    """Whose a column is; None for functions and constants."""
    if column in _ITEM:
        return "item"
    if column in _OTHER:
        return "other"
    if keys := OWN_GROUPS.get(column.rpartition("_")[0]):
        return "other" if _ITEM.isdisjoint(keys) and "position" not in keys else "both"
    if _BOTH.fullmatch(column):
        return "both"
    return "other" if column.startswith("user_") else None
