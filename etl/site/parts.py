"""What tables are for: what happened, the items, the users; and how well their ids match."""

from dataclasses import dataclass, field

from etl.site.fields import Field, SampledTable
from etl.site.guesses import Guess
from etl.sources.times import EPOCH_UNITS, TimeFormat
from etl.sources.values import are_decimals


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


def about_dimension(dimension: Dimension) -> str:
    """Rows of a table of items or users, and how many ids of what happened have none."""
    parts = [f"{dimension.table.pattern}: {_size(dimension.table)}"]
    if (match := dimension.matching) is not None:
        parts.append(
            f"{match.num_unmatched:,} of {match.num_ids:,} ids of what happened have no row ({1 - match.share:.1%})"
        )
        if match.example is not None:
            parts.append(f"first {match.example}")
    return "; ".join(parts)


def about_happening(one: Happening) -> str:
    """Rows, users and items of what happened."""
    parts = [f"{one.table.pattern}: {_size(one.table)}"]
    parts.append(f"{one.user.num_distinct:,} users, {one.item.num_distinct:,} items; users and items {one.reason}")
    return "; ".join(parts)


def _size(table: SampledTable) -> str:
    files = f" in {len(table.files)} files" if len(table.files) > 1 else ""
    sample = "" if table.is_whole else f", of which {table.num_sampled:,} were looked at"
    refused = f", {table.num_refused:,} of them can't be read" if table.num_refused else ""
    return f"{'' if table.is_whole else 'about '}{table.num_rows:,} rows{files}{sample}{refused}"


def about_ids(ids: Field) -> str:
    """Values of a column of ids, and what is wrong with some."""
    parts = [f"{ids.num_distinct:,} values"]
    if ids.num_missing:
        parts.append(f"{ids.share_missing:.1%} of the rows have none and are refused")
    if are_decimals(list(ids.counts.index[:500])):
        parts.append(f"written with a decimal point ({ids.counts.index[0]}): '1' in another file is another id")
    if ids.is_damaged:
        parts.append(f"rounded by a spreadsheet ({ids.counts.index[0]}): different ids are equal")
    return "; ".join(parts)


def about_times(one: Happening) -> str:
    """Format and range of the times of what happened."""
    assert one.at is not None
    if not isinstance(one.time_format, TimeFormat):
        return f"such as {one.at.counts.index[0]!r}"
    times = one.at.times(one.time_format)
    unit = one.time_format.pattern
    unit = f"{unit} since 1970" if unit in EPOCH_UNITS else unit
    wrong = int(times.isna().sum()) - one.at.num_missing
    refused = f"; {wrong:,} values are no such time" if wrong else ""
    return f"{unit}: {times.min():%Y-%m-%d %H:%M} to {times.max():%Y-%m-%d %H:%M}{refused}"
