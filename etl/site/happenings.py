"""Which table says what happened between users and items, and which of its columns have what."""

import json
import re
from collections.abc import Sequence
from itertools import permutations

import pandas as pd

from etl.ingest.columns import USUAL_NAMES
from etl.site.dimensions import MIN_LISTED, MIN_MATCH, MIN_UNNAMED_MATCH, likeness
from etl.site.fields import Field, SampledTable
from etl.site.guesses import Guess, guess_click, guess_position, guess_propensity, guess_time
from etl.site.parts import Happening, matching
from etl.site.words import Entity, entity_of, is_name_of, is_named
from etl.sources.texts import list_parts
from etl.sources.times import EPOCH_UNITS, TimeFormat

_MIN_IDS = 10
_SYMMETRIC = 0.5
_NUM_CELLS = 200
_LIST_SEPARATORS = (" ", ",", ";", "|")
_SHOWN = re.compile(r"-[01]$")  # behind an id in a list of what was shown: whether it was clicked
_MAX_MISSING = 0.5
_REQUEST_NAMES = (
    "request_id",
    "req_id",
    "request",
    "impression_id",
    "session_id",
    "list_id",
    "query_id",
    "search_id",
    "srch_id",
    "display_id",
)
_SEARCHES = ("visitor_id", "session_id", "session", "search_id", "srch_id", "query_id")
_DEVICE_NAMES = ("device", "device_type", "platform", "os")


def guess_ids(table: SampledTable, tables: Sequence[SampledTable]) -> tuple[Field, Field, str] | str:
    """The columns of users and items of a table of what happened, and by what they are; why it is none, as text."""
    named = {entity: _named(entity, table) for entity in ("user", "item")}
    user, item = named["user"], named["item"]
    if user is not None and user.share_missing > _MAX_MISSING and (session := _session(table)) is not None:
        reason = f"{user.name} is empty in {user.share_missing:.0%} of the rows, so that {session.name} stands for it"
        return (session, item, reason) if item is not None else f"no column of items beside {session.name}"
    if user is None and item is not None and (session := _session(table, _SEARCHES)) is not None:
        return session, item, f"no column of users: {session.name} stands for it, of which no later row knows anything"
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
    if (objects := _lists_of_objects(table, user)) is not None:
        return objects
    if user is not None or item is not None:
        other, one = ("items", user) if user is not None else ("users", item)
        return f"no column of {other} beside {one.name}" if one is not None else ""
    first = list(table.fields.values())[:2]
    if len(first) == 2 and are_links(*first):
        return f"{first[0].name} and {first[1].name} have ids of one kind, as of friends"
    return "no column of users or items by its name, and no values as another table's key has"


def guess_lists(table: SampledTable, tables: Sequence[SampledTable]) -> Happening | None:
    """Lists of what was shown, of which each part says whether it was clicked, as `N1-0 N2-1`, or another column which.

    None for others.
    """
    return _labelled_lists(table) or _lists_with_chosen(table, tables)


def _lists_with_chosen(table: SampledTable, tables: Sequence[SampledTable]) -> Happening | None:
    """Lists of ids of another table, beside a column of those that were clicked, which are in the list."""
    keys = [key for other in tables if other is not table for key in other.keys]
    fields = list(table.fields.values())
    user = _named("user", table)
    for shown, chosen in permutations(fields, 2):
        for separator in (",", "|", ";", " "):
            cells = [_listed(text, separator) for text in shown.texts.head(_NUM_CELLS)]
            clicked = [_listed(text, separator) for text in chosen.texts.head(_NUM_CELLS)]
            ids = pd.Series([part for cell in cells for part in cell], dtype=object)
            is_of_lists = len(ids) > 1.5 * len(cells) and any(clicked)
            are_shown = all(set(few) <= set(cell) for few, cell in zip(clicked, cells, strict=True))
            if not is_of_lists or not are_shown or sum(map(len, clicked)) == len(ids):
                continue
            if any(ids.isin(key.counts.index).mean() >= MIN_UNNAMED_MATCH for key in keys):
                user = user or next((one for one in fields if one not in (shown, chosen) and _may_be_user(one)), None)
                return None if user is None else _of_chosen(table, user, (shown, chosen), separator)
    return None


def _of_chosen(table: SampledTable, user: Field, lists: tuple[Field, Field], separator: str) -> Happening:
    shown, chosen = lists
    cells, clicked = ([_listed(text, separator) for text in one.texts] for one in lists)
    ids = pd.Series([part for cell in cells for part in cell], dtype=object)
    free = [one for one in table.fields.values() if one is not user and one not in lists]
    at, form = guess_time(free, has_names=table.has_header) or (None, None)
    return Happening(
        table,
        user,
        Field(shown.name, ids),
        f"in {shown.name} as lists, by {user.name}",
        at,
        form,
        device=_by_name(free, _DEVICE_NAMES),
        request=_by_name(free, _REQUEST_NAMES),
        separator=separator,
        about_lists=f"{len(ids) / max(len(cells), 1):.1f} items in a list",
        chosen=Guess(chosen.name, f"{sum(map(len, clicked)) / max(len(ids), 1):.1%} of the items were clicked"),
    )


def _listed(text: object, separator: str) -> list[str]:
    return list_parts(text, separator) if isinstance(text, str) else []


def _labelled_lists(table: SampledTable) -> Happening | None:
    for one in table.fields.values():
        for separator in _LIST_SEPARATORS:
            cells = [[part for part in str(text).split(separator) if part] for text in one.counts.index[:_NUM_CELLS]]
            parts = [part for cell in cells for part in cell]
            if len(parts) > len(cells) > 0 and all(map(_SHOWN.search, parts)):
                free = [other for other in table.fields.values() if other is not one]
                user = _named("user", table) or next(filter(_may_be_user, free), None)
                return None if user is None else _of_lists(table, user, one, separator)
    return None


def with_columns(table: SampledTable, user: Field, item: Field, reason: str) -> Happening:
    """What happened by its users and items, with the columns of time, clicks and place in a list.

    Args:
        table: with the rows.
        user: column of the users.
        item: column of the items.
        reason: by what these are.
    """
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
        propensity=guess_propensity(free) if is_shown else None,
        device=_by_name(free, _DEVICE_NAMES) if is_shown else None,
        request=_by_name(free, _REQUEST_NAMES) if is_shown else None,
    )


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
    ids = [one for one in fields if entity_of(one.name, table.stem) == entity]
    return next(iter([*ids, *(one for one in fields if is_name_of(one.name, entity))]), None)


def _is_measure(one: Field) -> bool:
    """Whether values are no ids: fractions, rounded ids, or objects."""
    return (one.is_number and not one.is_whole_number) or one.is_damaged or one.is_object


def _session(table: SampledTable, names: Sequence[str] = (*_SEARCHES, "device_id", "cookie_id")) -> Field | None:
    named = (one for one in table.fields.values() if is_named(one.name, names))
    # A column that most rows lack can't stand for their users.
    return next((one for one in named if one.share_missing < 0.5), None)


def _is_key_of_others(one: Field, other: Field, table: SampledTable, tables: Sequence[SampledTable]) -> bool:
    """Whether a table has a row for each id of another's column, so that it describes items or users by another id."""
    if not one.is_unique or other.is_unique:
        return False
    for elsewhere in tables:
        same = elsewhere.fields.get(one.name) if elsewhere is not table else None
        if same is not None and not same.is_unique and matching(same, one).share >= MIN_MATCH:
            return True
    return False


def _ids_by_values(
    table: SampledTable, tables: Sequence[SampledTable], named: dict[str, Field | None]
) -> tuple[Field, Field, str] | str | None:
    """Two columns whose values are those of other tables' keys; one of them may be told by its name.

    Text where one is the key of orders or the like, which another column of that table says whose they are.
    """
    free = [one for one in table.fields.values() if one.num_distinct >= _MIN_IDS and not one.is_unique]
    keys = [(other, key) for other in tables if other is not table for key in other.keys]
    matches = [
        (one, other, key)
        for one in free
        for other, key in keys
        if not _is_measure(one) and matching(one, key).share >= MIN_UNNAMED_MATCH
    ]
    matched = {one for one, *_ in matches}
    for first, second in permutations(matches, 2):
        (one, users, key), (two, items, _) = first, second
        # A name counts where the values can be such ids at all: `place` may be one in a list.
        by_name = ((named["user"], one), (named["item"], two))
        is_named_so = all(other in (ids, None) or other not in matched for other, ids in by_name)
        if one is not two and users is not items and is_named_so and likeness(items) > likeness(users):
            if (user := _named("user", users)) is not None and user is not key and not user.is_unique:
                return _joined(table, one, two, users, key, user)
            parts = [f"{ids.name} has values of {of.name} in {other.pattern}" for ids, other, of in (first, second)]
            return one, two, ", ".join(parts)
    user = named["user"]
    for two, other, key in matches if user is not None and user not in matched and named["item"] is None else ():
        # Whole numbers match any key: the name must be the same, or the other table's.
        is_item = entity_of(key.name, other.stem) != "user" and likeness(other) >= 0
        if user is not None and is_item and (not key.is_number or is_named(two.name, [key.name])):
            return user, two, f"{user.name} by its name, {two.name} has values of {key.name} in {other.pattern}"
    return None


def _joined(table: SampledTable, one: Field, item: Field, orders: SampledTable, key: Field, user: Field) -> str:
    """That rows are whole only with those of another table, and what to declare."""
    sql = f"select * from lines join orders on lines.`{one.name}` = orders.`{key.name}`"
    if one.name == key.name:
        sql = f"select * from lines join orders using (`{key.name}`)"
    files = f'files={{"lines": Files("{table.pattern}"), "orders": Files("{orders.pattern}")}}'
    return (
        f"its {one.name} is the key of {orders.pattern}, which has the user: join them, "
        f'Action("order", Query("{sql}", {files}), user="{user.name}", item="{item.name}", at=…)'
    )


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
            if ids.isin(key.counts.index).mean() >= MIN_LISTED:
                clicks = " and whether each was clicked" if has_clicks else ""
                reason = f"{one.name} has several ids of {other.pattern}{clicks} in a cell: write a row for each"
                reasons.setdefault(has_clicks, reason)
    return reasons.get(True) or reasons.get(False)


def _lists_of_objects(table: SampledTable, user: Field | None) -> str | None:
    """Says that a column has lists of objects, as the lines of an order, and the query that makes a row of each."""
    for one in table.fields.values():
        rows = [_objects(text) for text in one.texts.dropna().head(_NUM_CELLS)]
        names = list(dict.fromkeys(name for row in rows if row for value in row for name in value))
        if not rows or not all(rows) or not names:
            continue
        item = next((name for name in names if entity_of(name, one.name) == "item"), names[0])
        types = ", ".join(f"`{name}`: string" for name in names)
        top, path = (user.name.partition(".")[::2]) if user is not None else ("", "")
        whose = f"get_json_object(`{top}`, '$.{path}') as who" if path else f"`{top or '…'}` as who"
        sql = (
            f"select *, {whose}, one.`{item}` as what from rows lateral view "
            f"explode(from_json(`{one.name}`, 'array<struct<{types}>>')) as one"
        )
        source = f'Query("{sql}", files={{"rows": Files("{table.pattern}")}})'
        return f'{one.name} has lists of objects, a row for each is {source}, with user="who", item="what"'
    return None


def _objects(text: str) -> list[dict[str, object]] | None:
    """The objects in a list, None for anything else."""
    try:
        value = json.loads(text) if text.startswith("[") else None
    except ValueError:
        return None
    return value if isinstance(value, list) and all(isinstance(one, dict) for one in value) else None


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


def _by_name(fields: Sequence[Field], names: Sequence[str]) -> Guess | None:
    one = next((one for name in names for one in fields if is_named(one.name, [name]) and one.num_distinct > 1), None)
    return None if one is None else Guess(one.name, f"{one.num_distinct:,} values")
