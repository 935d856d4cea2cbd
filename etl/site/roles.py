"""Which table has actions, impressions, items and users: by keys, by values that two tables share, by names."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import permutations

import pandas as pd

from etl.ingest.columns import USUAL_NAMES
from etl.site.column_roles import ROLE_NAMES
from etl.site.fields import Field, SampledTable
from etl.site.guesses import Guess, guess_click, guess_position, guess_time
from etl.site.words import Entity, entity_of, is_named
from etl.sources.times import EPOCH_UNITS, TimeFormat

_MIN_MATCH = 0.5  # of the distinct ids of an actions' table, by name
_MIN_UNNAMED_MATCH = 0.95
_MIN_IDS = 10
_SYMMETRIC = 0.5
_NUM_CELLS, _MIN_LISTED = 200, 0.02  # the other table may be a part
_LIST_SEPARATORS = (" ", ",", ";", "|")
_SHOWN = re.compile(r"-[01]$")  # behind an id in a list of what was shown: whether it was clicked
_MAX_MISSING = 0.5
_REQUEST_NAMES = (
    "request_id",
    "impression_id",
    "session_id",
    "list_id",
    "query_id",
    "search_id",
    "srch_id",
    "display_id",
)
_DEVICE_NAMES = ("device", "device_type", "platform", "os")


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
    device: Guess | None = None
    request: Guess | None = None
    separator: str | None = None
    """Between the items of a list in a cell, each with its label; `item` has all of them, `clicked` is none then."""
    about_lists: str = ""

    @property
    def is_shown(self) -> bool:
        """Whether the rows say what was shown, and what of it was clicked."""
        return self.clicked is not None or self.separator is not None

    @property
    def roles(self) -> set[str]:
        """Names of the columns that have a role."""
        guesses = (self.clicked, self.position, self.device, self.request)
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


def assign_roles(tables: Sequence[SampledTable]) -> Roles:
    """Decide what each table is for; those that fit nothing are said to."""
    others: dict[str, str] = {}
    happenings = []
    for table in tables:
        ids = guess_ids(table, tables)
        if isinstance(ids, str) and (lists := guess_lists(table)) is not None:
            happenings.append(lists)
        elif isinstance(ids, str):
            others[table.pattern] = ids
        else:
            happenings.append(_happening(table, *ids))
    happenings, copies = _without_copies(happenings)
    rest = [table for table in tables if table.pattern in others]
    others |= copies
    items, reasons = _dimension("item", rest, happenings)
    others |= reasons
    free = [table for table in rest if items is None or table is not items.table]
    users, reasons = _dimension("user", free, happenings)
    others |= {pattern: reason for pattern, reason in reasons.items() if "as well" in reason}
    for dimension in (items, users):
        if dimension is not None:
            del others[dimension.table.pattern]
    return Roles(tuple(happenings), items, users, others)


def guess_ids(table: SampledTable, tables: Sequence[SampledTable]) -> tuple[Field, Field, str] | str:
    """The columns of users and items of a table of what happened, and by what they are; why it is none, as text."""
    named = {entity: _named(entity, table) for entity in ("user", "item")}
    user, item = named["user"], named["item"]
    if user is not None and user.share_missing > _MAX_MISSING and (session := _session(table)) is not None:
        reason = f"{user.name} is empty in {user.share_missing:.0%} of the rows, so that {session.name} stands for it"
        return (session, item, reason) if item is not None else f"no column of items beside {session.name}"
    if user is not None and item is not None:
        if _is_key_of_others(item, user, table, tables) or _is_key_of_others(user, item, table, tables):
            return "one row for each id that other tables have"
        return user, item, f"by their names, {user.name} and {item.name}"
    if (by_values := _ids_by_values(table, tables, named)) is not None:
        return by_values
    if not table.has_header and (by_place := _ids_by_place(table)) is not None:
        return by_place
    if (lists := _lists_of_ids(table, tables)) is not None:
        return lists
    if user is not None or item is not None:
        other, one = ("items", user) if user is not None else ("users", item)
        return f"no column of {other} beside {one.name}" if one is not None else ""
    first = list(table.fields.values())[:2]
    if len(first) == 2 and are_links(*first):
        return f"{first[0].name} and {first[1].name} have ids of one kind, as of friends"
    return "no column of users or items by its name, and no values as another table's key has"


def _without_copies(happenings: Sequence[Happening]) -> tuple[list[Happening], dict[str, str]]:
    """Leave out tables with the same users and items, row by row, as an earlier one; why, by their pattern."""
    distinct: list[Happening] = []
    copies: dict[str, str] = {}
    for one in happenings:
        # What has columns' names is the original.
        same = next((other for other in distinct if _are_copies(one, other)), None)
        if same is None:
            distinct.append(one)
            continue
        original, copy = (one, same) if one.table.has_header > same.table.has_header else (same, one)
        distinct[distinct.index(same)] = original
        copies[copy.table.pattern] = f"the same users and items, row by row, as {original.table.pattern}"
    return distinct, copies


def _are_copies(one: Happening, other: Happening) -> bool:
    if one.table.num_sampled != other.table.num_sampled or one.separator or other.separator:
        return False
    pairs = [(left.texts.to_numpy(), right.texts.to_numpy()) for left, right in _id_columns(one, other)]
    is_same = (pairs[0][0] == pairs[0][1]) & (pairs[1][0] == pairs[1][1])
    return len(is_same) > _MIN_IDS and float(is_same.mean()) > 0.99


def _id_columns(one: Happening, other: Happening) -> list[tuple[Field, Field]]:
    return [(one.user, other.user), (one.item, other.item)]


def matching(ids: Field, key: Field) -> Matching:
    """How many distinct ids have a row in another table."""
    is_matched = ids.counts.index.isin(key.counts.index)
    unmatched = ids.counts.index[~is_matched]
    return Matching(ids.num_distinct, len(unmatched), str(unmatched[0]) if len(unmatched) else None)


def are_links(one: Field, other: Field) -> bool:
    """Whether two columns have ids of one kind, as friends: most pairs are there the other way round, too."""
    pairs = pd.DataFrame({"one": one.texts, "other": other.texts}).drop_duplicates()
    turned = pairs.rename(columns={"one": "other", "other": "one"})
    return len(pairs) > 1 and len(pairs.merge(turned, on=["one", "other"])) > _SYMMETRIC * len(pairs)


def _named(entity: Entity, table: SampledTable) -> Field | None:
    """The column of ids of users or items by its name; of several the one that most usually has them."""
    usual = (
        ("user_id", *USUAL_NAMES["ratings"]["user_id"])
        if entity == "user"
        else ("item_id", *USUAL_NAMES["ratings"]["item_id"])
    )
    fields = [one for one in table.fields.values() if one.num_distinct > 0 and not _is_measure(one)]
    for name in usual:
        for one in fields:
            if is_named(one.name, [name]):
                return one
    return next((one for one in fields if entity_of(one.name, table.stem) == entity), None)


def _is_measure(one: Field) -> bool:
    """Whether values are no ids: fractions, or rounded ids."""
    return (one.is_number and not one.is_whole_number) or one.is_damaged


def _session(table: SampledTable) -> Field | None:
    names = ("session_id", "session", "visitor_id", "device_id", "cookie_id")
    return next((one for one in table.fields.values() if is_named(one.name, names) and one.share_missing < 0.5), None)


def _is_key_of_others(one: Field, other: Field, table: SampledTable, tables: Sequence[SampledTable]) -> bool:
    """Whether a table has a row for each id of another's column, so that it describes items or users by another id."""
    if not one.is_unique or other.is_unique:
        return False
    for elsewhere in tables:
        same = elsewhere.fields.get(one.name) if elsewhere is not table else None
        if same is not None and not same.is_unique and matching(same, one).share >= _MIN_MATCH:
            return True
    return False


def _ids_by_values(
    table: SampledTable, tables: Sequence[SampledTable], named: dict[str, Field | None]
) -> tuple[Field, Field, str] | None:
    """Two columns whose values are those of other tables' keys; one of them may be told by its name."""
    free = [one for one in table.fields.values() if one.num_distinct >= _MIN_IDS and not one.is_unique]
    keys = [(other, key) for other in tables if other is not table for key in other.keys]
    matches = [
        (one, other, key)
        for one in free
        for other, key in keys
        if not _is_measure(one) and matching(one, key).share >= _MIN_UNNAMED_MATCH
    ]
    matched = {one for one, *_ in matches}
    for first, second in permutations(matches, 2):
        (one, users, _), (two, items, _) = first, second
        # A name counts where the values can be such ids at all: `place` may be one in a list.
        by_name = ((named["user"], one), (named["item"], two))
        is_named_so = all(other in (ids, None) or other not in matched for other, ids in by_name)
        if one is not two and users is not items and is_named_so and _likeness(items) > _likeness(users):
            parts = [f"{ids.name} has values of {key.name} in {other.pattern}" for ids, other, key in (first, second)]
            return one, two, ", ".join(parts)
    return None


def guess_lists(table: SampledTable) -> Happening | None:
    """Lists of what was shown, as `N1-0 N2-1`: each part of each cell says whether it was clicked. None for others."""
    for one in table.fields.values():
        for separator in _LIST_SEPARATORS:
            cells = [[part for part in str(text).split(separator) if part] for text in one.counts.index[:_NUM_CELLS]]
            parts = [part for cell in cells for part in cell]
            if len(parts) > len(cells) > 0 and all(map(_SHOWN.search, parts)):
                free = [other for other in table.fields.values() if other is not one]
                user = _named("user", table) or next(filter(_may_be_user, free), None)
                return None if user is None else _of_lists(table, user, one, separator)
    return None


def _of_lists(table: SampledTable, user: Field, lists: Field, separator: str) -> Happening:
    entries = lists.texts.dropna().str.split(separator, regex=False).explode()
    entries = entries[entries != ""]
    items = Field(lists.name, entries.str.replace(_SHOWN, "", regex=True).reset_index(drop=True))
    free = [one for one in table.fields.values() if one is not user and one is not lists]
    time = guess_time(free, has_names=table.has_header)
    about = f"{entries.str.endswith('-1').mean():.1%} of {len(entries):,} items in the lists were clicked"
    reason = f"in {lists.name} as lists with their labels, by {user.name}"
    at, form = time if time is not None else (None, None)
    request = _by_name(free, _REQUEST_NAMES)
    return Happening(table, user, items, reason, at, form, request=request, separator=separator, about_lists=about)


def _may_be_user(one: Field) -> bool:
    """Whether a column without a name may have ids of users: they come again, and are no times, lists or texts."""
    texts = [str(text) for text in one.counts.index[:100]]
    is_word = all(len(text) <= 40 and not re.search(r"\s", text) for text in texts)
    return (
        is_word and one.num_distinct >= _MIN_IDS and not one.is_unique and one.num_missing == 0 and not _is_measure(one)
    )


def _lists_of_ids(table: SampledTable, tables: Sequence[SampledTable]) -> str | None:
    """Says that a column has several ids of another table in a cell, as `N1-0 N2-1`; None where there is none."""
    keys = [(other, key) for other in tables if other is not table for key in other.keys if not key.is_number]
    reasons: dict[bool, str] = {}
    for one in table.fields.values():
        cells = [re.split(r"[ ,;|]+", str(text)) for text in one.counts.index[:_NUM_CELLS]]
        parts = [part for cell in cells if len(cell) > 1 for part in cell]
        ids = pd.Series([_SHOWN.sub("", part) for part in parts], dtype=object)
        has_clicks = any(map(_SHOWN.search, parts))
        for other, key in keys if len(ids) > _MIN_IDS else ():
            if ids.isin(key.counts.index).mean() >= _MIN_LISTED:
                clicks = " and whether each was clicked" if has_clicks else ""
                reason = f"{one.name} has several ids of {other.pattern}{clicks} in a cell: write a row for each"
                reasons.setdefault(has_clicks, reason)
    return reasons.get(True) or reasons.get(False)


def _likeness(table: SampledTable) -> int:
    """How much more a table looks like one of items than of users, by its columns' names."""
    item_names = [name for names in ROLE_NAMES["items"].values() for name in names] + ["price", "text", "url", "genre"]
    user_names = [name for names in ROLE_NAMES["users"].values() for name in names] + ["occupation", "country", "email"]
    fields = table.fields.values()
    return sum(is_named(one.name, item_names) - is_named(one.name, user_names) for one in fields)


def _ids_by_place(table: SampledTable) -> tuple[Field, Field, str] | None:
    """The first two columns of a file without names, if these are ids that come again."""
    first = [one for one in list(table.fields.values())[:2] if not one.is_unique and not _is_measure(one)]
    if len(first) < 2 or any(one.num_distinct < 2 or one.num_missing for one in first) or are_links(*first):
        return None
    if any(one.num_distinct > 0.98 * one.num_rows and one.num_rows > 100 for one in first):
        return None
    if any(isinstance(one.time_format, TimeFormat) and one.time_format.pattern not in EPOCH_UNITS for one in first):
        return None
    return first[0], first[1], "the first two columns, by custom"


def _happening(table: SampledTable, user: Field, item: Field, reason: str) -> Happening:
    free = [one for one in table.fields.values() if one not in (user, item)]
    time = guess_time(free, has_names=table.has_header)
    free = [one for one in free if time is None or one is not time[0]]
    clicked = guess_click(free)
    is_shown = clicked is not None
    return Happening(
        table,
        user,
        item,
        reason,
        at=time[0] if time else None,
        time_format=time[1] if time else None,
        clicked=clicked,
        position=guess_position(free) if is_shown else None,
        device=_by_name(free, _DEVICE_NAMES) if is_shown else None,
        request=_by_name(free, _REQUEST_NAMES) if is_shown else None,
    )


def _by_name(fields: Sequence[Field], names: Sequence[str]) -> Guess | None:
    one = next((one for name in names for one in fields if is_named(one.name, [name]) and one.num_distinct > 1), None)
    return None if one is None else Guess(one.name, f"{one.num_distinct:,} values")


def _dimension(
    entity: Entity, tables: Sequence[SampledTable], happenings: Sequence[Happening]
) -> tuple[Dimension | None, dict[str, str]]:
    """The table of items or users, and why others are none."""
    candidates: list[tuple[float, Dimension]] = []
    reasons: dict[str, str] = {}
    for table in tables:
        best = max(
            (_scored(entity, table, key, happenings) for key in table.keys), key=lambda one: one[0], default=None
        )
        if best is not None and best[0] > 0:
            candidates.append(best)
    if not candidates:
        return None, reasons
    chosen = max(candidates, key=lambda one: (round(one[0], 2), len(one[1].table.fields)))[1]
    for _, other in candidates:
        if other is not chosen:
            reasons[other.table.pattern] = (
                f"one row per {other.key.name} as well as {chosen.table.pattern}: join its columns to that file"
            )
    return chosen, reasons


def _scored(
    entity: Entity, table: SampledTable, key: Field, happenings: Sequence[Happening]
) -> tuple[float, Dimension]:
    """How sure it is that a table's key is that of users or items: by matching values, names, and other columns."""
    by_name = entity_of(key.name if table.has_header else "id", table.stem)
    likeness = _likeness(table) * (1 if entity == "item" else -1)
    if not happenings:
        return float(by_name == entity), Dimension(table, key, None)
    best = max((matching(getattr(one, entity), key) for one in happenings), key=lambda one: one.share)
    is_same_name = any(is_named(key.name, [getattr(one, entity).name]) for one in happenings)
    least = _MIN_MATCH if by_name == entity or is_same_name else _MIN_UNNAMED_MATCH
    if by_name == entity and not key.is_number:
        least = _MIN_LISTED  # texts are hardly ever equal by chance: the file may be a part
    is_other = by_name not in (entity, None) and not is_same_name
    # Small whole numbers match any key: without a name, the columns must say whose they are.
    is_unlike = not is_same_name and by_name is None and likeness <= 0 and key.is_number
    if best.share < least or is_other or is_unlike:
        return 0.0, Dimension(table, key, best)
    score = best.share + 0.5 * is_same_name + 0.5 * (by_name == entity) + 0.05 * likeness
    return score, Dimension(table, key, best)
