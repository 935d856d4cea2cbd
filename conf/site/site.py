"""The parts of a site, and the site."""

import re
from collections.abc import Sequence
from dataclasses import field
from typing import Annotated

from pydantic import Field

from conf.site.columns import MAX_LENGTH, Buckets, Category, Columns
from conf.site.declaration import Name, Names, declaration
from conf.site.features import Dense, Sparse
from conf.site.sources import Source


@declaration
class Items:
    """What is recommended: one row per item -> dim_item."""

    source: Source
    key: Name
    """Column of the item's id."""
    title: Name | None = None
    category: Name | None = None
    """Column of the topic or genre; of several in a cell the first counts most."""
    author: Name | None = None
    published_at: Name | None = None
    release_year: Name | None = None
    columns: Columns = field(default_factory=dict)
    """Other columns that features may read, by their names in the file."""


@declaration
class Users:
    """For whom: one row per user -> dim_user. Without a file, users are those of the actions."""

    source: Source
    key: Name
    gender: Name | None = None
    age: Name | None = None
    """Column of the age in years."""
    city: Name | None = None
    registered_at: Name | None = None
    columns: Columns = field(default_factory=dict)


@declaration
class Action:
    """What users did with items, one row per act -> dwd_interaction."""

    name: Name
    """Such as click, purchase or rating: of all rows, unless `column` names a column of actions."""
    source: Source
    user: Name
    item: Name
    at: Name | None = None
    """Column of the time; without one, `Files.day` says the day."""
    value: Name | None = None
    """Column of the rating or amount; 1 without one."""
    column: Name | None = None
    """Column that names each row's action."""
    request: Name | None = None
    """Column that identifies the list it happened in, by the `request` of the impressions."""
    columns: Columns = field(default_factory=dict)
    """What was known when it happened (weather, campaign …)."""


@declaration
class ClickedBy:
    """Clicks that are rows of their own: who acted on an item soon after it was shown clicked it."""

    action: Name
    """Name of the action whose rows are clicks."""
    within_minutes: Annotated[float, Field(gt=0, le=60 * 24 * 30)] = 60
    """Between the impression and the act; of several impressions the last one was clicked."""
    at_least: float | None = None
    """Smallest value of an act that is a click, as seconds watched."""


@declaration
class Impressions:
    """What was shown, one row per item, and whether it was clicked -> dwd_impression: training rows as they are."""

    source: Source
    user: Name
    item: Name
    """Column of the item; with `separator`, of the list of all items that were shown."""
    clicked: Name | None = None
    """Column that is 1 (or true, yes) for a click, 0 (or -1, false, no, empty) for none; not with `separator`."""
    at_least: float | None = None
    """Smallest value of a click, where `clicked` has numbers, as seconds watched."""
    at: Name | None = None
    position: Name | None = None
    """Column of the place in the list, from 1."""
    propensity: Name | None = None
    """Column of the probability, above 0 and at most 1, that the site showed this item to this user at this place."""
    device: Name | None = None
    request: Name | None = None
    """Column that identifies the list; each row is a list of its own without one."""
    separator: Name | None = None
    """Where a row has a whole list: what stands between its items, each with its label, as in `N138-1 N64727-0`."""
    chosen: Name | None = None
    """Of lists without labels: column of the item that was clicked, or of several with `separator` between them."""
    clicked_by: ClickedBy | None = None
    """Instead of `clicked`: the action whose rows are the clicks."""
    columns: Columns = field(default_factory=dict)
    """What was known when it was shown (weather, campaign …)."""


@declaration
class Label:
    """Which actions are positives: what models learn to predict where nothing says what was shown."""

    action: Name
    at_least: float | None = None
    """Smallest value of a positive; every row of the action is one without it."""


@declaration
class Cross:
    """A sparse feature of two or more columns together, such as user × genre."""

    columns: Names
    """Own columns as `item_year`, `user_plan`, `context_weather`, built-in ones as `user_id`, or other crosses."""
    buckets: Buckets = 65536
    name: str | None = None

    @property
    def feature(self) -> str:
        """Name of the feature."""
        return self.name or "_x_".join(self.columns)


@declaration
class Rate:
    """The rate of positives by one or more columns before the row's day, smoothed towards the overall rate."""

    by: Names
    """Own columns as `item_year`, or built-in ones."""
    days: Annotated[int, Field(ge=1)] | None = None
    """Days before the row's that are counted; all that there are without it."""
    name: str | None = None

    @property
    def feature(self) -> str:
        """Name of the feature."""
        window = () if self.days is None else (f"{self.days}d",)
        return self.name or "_".join((*self.by, "rate", *window))


@declaration
class Last:
    """The items of a user's last acts before a row's moment, oldest first: a list of ids that deep models read."""

    action: Name
    """Name of an action, or `click` for clicks of impressions."""
    length: Annotated[int, Field(ge=1, le=MAX_LENGTH)] = 20
    """Acts at most."""
    of: Name = "item_id"
    """What of the items: `item_id`, `category`, `author`, or a column of theirs as `item_brand`, of tags the first."""
    at_least: float | None = None
    """Smallest value of an act that counts, as seconds of dwell."""
    name: str | None = None

    @property
    def feature(self) -> str:
        """Name of the feature."""
        action = re.sub(r"\W+", "_", self.action.strip()).strip("_").lower()
        return self.name or "_".join(("last", action, *(() if self.of == "item_id" else (self.of,))))


@declaration
class Site:
    """Everything that differs between one user's data and another's."""

    name: Name
    """Short, of small letters, digits and hyphens."""
    items: Items | None = None
    users: Users | None = None
    actions: Sequence[Action] = ()
    impressions: Impressions | Sequence[Impressions] = ()
    label: Label | None = None
    """Needed where there are no impressions and actions have values that say how much an item was liked."""
    features: Sequence[Cross | Rate | Last | Sparse | Dense] = ()
    """Beside those of the columns."""
    user_ids: Category | None = None
    """How users become ids of the feature `user_id`; hashed into 65,536 without it."""
    item_ids: Category | None = None
    """The same of `item_id`, by which histories and retrieval models know items; hashed into 16,384 without it."""
    has_counts: bool = True
    """Whether features count what happened on earlier days (rates, tags …); False where rows have no real days."""
