"""Lists of what users did last, as a site declares them by `Last`: ids of items, or of a feature of theirs.

A list has the ids of its feature in the order of time, the newest last, of acts strictly before the row's moment. What
happened earlier on the day counts, too: unlike counts, a list does not change what other rows of the day have.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conf.site import Last, Site, Sparse
from features.own_columns import OwnColumns

CLICK = "click"  # of an impression, beside the actions


@dataclass(frozen=True)
class ItemList:
    """One list of ids: a feature without a value of its own in a row, which deep models pool or attend to."""

    name: str
    action: str
    length: int
    at_least: float | None
    field: Sparse
    """The feature of the items whose ids it has."""
    kind: str = "list"

    @property
    def column(self) -> str:
        """Its column in data sets."""
        return f"f_{self.name}"

    @property
    def source(self) -> str:
        """The expression over an item of which an id is made."""
        return self.field.source

    @property
    def definition(self) -> str:
        """What the feature index keeps: a change of it is refused."""
        bound = "" if self.at_least is None else f" from {self.at_least} on"
        return f"last {self.length} {self.action}{bound}: {self.field.definition}"

    @property
    def description(self) -> str:
        """A line of text."""
        return f"{self.field.name} of the last {self.length} × {self.action}"

    def has(self, action: str, value: float | None) -> bool:
        """Whether an act is of the list."""
        return action == self.action and (self.at_least is None or (value is not None and value >= self.at_least))


def item_lists(site: Site | None, features: Sequence[Sparse]) -> Iterator[ItemList]:
    """The lists that a site declares.

    Args:
        site: that was checked.
        features: all of its sparse features.
    """
    fields = {feature.name: feature for feature in features}
    own = {column.name: column.names[0] for column in OwnColumns.of_site(site).columns}
    for last in site.features if site is not None else ():
        if isinstance(last, Last):
            field = fields[own.get(last.of, last.of)]
            yield ItemList(last.feature, last.action, last.length, last.at_least, field)


def reads_clicks(site: Site | None) -> bool:
    """Whether `click` means that of impressions: no action of the site has that name."""
    return site is None or CLICK not in [action.name for action in site.actions]


def last_ids(one: ItemList, acts: Iterable[Mapping[str, Any]], moment: float) -> list[int]:
    """The list of a user at a moment, as `features.counts.history.with_last` makes it on Spark.

    Args:
        one: the list.
        acts: of the user, with at_s (seconds since 1970), action, value, and the list's id under its name.
        moment: in seconds since 1970.
    """
    # Of acts at one moment the ids decide.
    earlier = sorted(
        (act["at_s"], act[one.name])
        for act in acts
        if act["at_s"] < moment and act[one.name] > 0 and one.has(act["action"], act["value"])
    )
    return [code for _, code in earlier[-one.length :]]
