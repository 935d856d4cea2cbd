"""What tables are for: what happened, the items, the users; and how well their ids match."""

from dataclasses import dataclass, field

from etl.site.fields import Field, SampledTable
from etl.site.guesses import Guess
from etl.sources.times import TimeFormat


@dataclass(frozen=True)
class Matching:
    """How well the ids of one table are matched by the key of another."""

    num_ids: int
    num_unmatched: int
    example: str | None
    """An id that has no row."""

    @property
    def share(self) -> float:
        """Share of the ids that have a row."""
        return 1 - self.num_unmatched / max(self.num_ids, 1)


@dataclass(frozen=True)
class Happening:
    """A table of what happened between users and items."""

    table: SampledTable
    user: Field
    item: Field
    reason: str
    at: Field | None = None
    time_format: TimeFormat | str | None = None
    """Of `at`; why it can't be told, as text."""
    clicked: Guess | None = None
    position: Guess | None = None
    propensity: Guess | None = None
    device: Guess | None = None
    request: Guess | None = None
    separator: str | None = None
    """Between the items of a list in a cell, each with its label; `item` has all of them, `clicked` is none then."""
    about_lists: str = ""
    chosen: Guess | None = None
    """Of lists without labels: the column of what was clicked."""

    @property
    def is_shown(self) -> bool:
        """Whether the rows say what was shown, and what of it was clicked."""
        return self.clicked is not None or self.separator is not None

    @property
    def roles(self) -> set[str]:
        """Names of the columns that have a role."""
        guesses = (self.clicked, self.position, self.propensity, self.device, self.request, self.chosen)
        fields = {one.name for one in (self.user, self.item, self.at) if one is not None}
        return fields | {guess.value for guess in guesses if guess is not None}


@dataclass(frozen=True)
class Dimension:
    """A table of items or users."""

    table: SampledTable
    key: Field
    matching: Matching | None
    """Of the ids of what happened; None where nothing did."""


@dataclass(frozen=True)
class Roles:
    """What each table is for."""

    happenings: tuple[Happening, ...] = ()
    items: Dimension | None = None
    users: Dimension | None = None
    others: dict[str, str] = field(default_factory=dict)
    """Pattern of a table that fits nothing -> why."""


def matching(ids: Field, key: Field) -> Matching:
    """How many distinct ids have a row in another table."""
    is_matched = ids.counts.index.isin(key.counts.index)
    unmatched = ids.counts.index[~is_matched]
    return Matching(ids.num_distinct, len(unmatched), str(unmatched[0]) if len(unmatched) else None)
