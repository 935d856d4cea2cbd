"""Tables and their roles -> the text of a declaration, with the figures of every guess as comments."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from etl.site.code import Argument, call, comment_lines, text
from etl.site.column_roles import ROLE_NAMES, guess_role, guess_role_by_values
from etl.site.column_types import TypeGuess, guess_separator
from etl.site.fields import Field, SampledTable, number, shares
from etl.site.guesses import (
    Guess,
    guess_action_column,
    guess_only_action,
    guess_threshold,
    guess_value,
    is_rating,
    thresholds,
)
from etl.site.own_columns import own_columns, shared_types
from etl.site.parts import Dimension, Happening, Roles, about_dimension, about_happening, about_ids, about_times
from etl.site.tables import LeftOut, has_date_in_name
from etl.site.words import ACTION_NAMES, action_name
from etl.sources.dialect import bare_name

_COUNTED = {
    **dict.fromkeys(("weight", "plays", "playcount", "listencount"), "play"),
    **dict.fromkeys(("quantity", "qty", "数量"), "purchase"),
}
_MIN_POSITIVES = 100
_CALLED = re.compile(
    r"\b(Action|Category|Files|Impressions|Items|Label|Last|Number|Outcome|Tags|Text|Tokens|Users|Vector)\("
)


@dataclass(frozen=True)
class DraftedAction:
    """An action as it will be declared."""

    name: str
    happening: Happening
    reason: str
    """Of the name."""
    value: Guess | None = None
    column: Guess | None = None

    @property
    def table(self) -> SampledTable:
        """Where its rows are."""
        return self.happening.table


@dataclass(frozen=True)
class Draft:
    """A declaration, before it is text."""

    name: str
    actions: tuple[DraftedAction, ...]
    impressions: tuple[Happening, ...]
    items: Dimension | None
    users: Dimension | None
    others: Mapping[str, str] = field(default_factory=dict)


def drafted(name: str, roles: Roles) -> Draft:
    """What is to be declared of tables with their roles.

    Args:
        name: of the folder of the files.
        roles: what each table is for.
    """
    shown = tuple(one for one in roles.happenings if one.is_shown)
    actions = tuple(_action(one) for one in roles.happenings if not one.is_shown)
    return Draft(_site_name(name), actions, shown, roles.items, roles.users, roles.others)


def site_text(draft: Draft, left_out: Sequence[LeftOut]) -> str:
    """The file: what tables there are, the declaration, and what was not guessed."""
    arguments = [Argument([text(draft.name)])]
    shared = shared_types([*(one.table for one in draft.actions), *(one.table for one in draft.impressions)])
    for name, dimension in (("items", draft.items), ("users", draft.users)):
        if dimension is not None:
            arguments.append(Argument(_dimension(name, dimension), about_dimension(dimension), name))
    if draft.actions:
        actions = [Argument(_action_call(one, shared), about_happening(one.happening)) for one in draft.actions]
        arguments.append(Argument(call("[", actions, 4, close="]"), name="actions"))
    if len(draft.impressions) == 1:
        (shown,) = draft.impressions
        arguments.append(Argument(_impressions(shown, 4, shared), about_happening(shown), "impressions"))
    elif draft.impressions:
        several = [Argument(_impressions(one, 8, shared), about_happening(one)) for one in draft.impressions]
        arguments.append(Argument(call("[", several, 4, close="]"), name="impressions"))
    arguments += [*_label(draft), *_lists(draft), *_has_counts(draft)]
    body = call("SITE = Site(", arguments, 0)
    code = "\n".join(line.split("  #")[0] for line in body if not line.strip().startswith("#"))
    used = sorted({"Site", *_CALLED.findall(code)})
    head = [
        '"""A draft by millrace init: each guess has its figures beside it. Correct what is wrong, then check it."""'
    ]
    return "\n".join(
        [*head, "", *_left_out(draft, left_out), f"from conf.site import {', '.join(used)}", "", *body, ""]
    )


def _left_out(draft: Draft, left_out: Sequence[LeftOut]) -> list[str]:
    lines = [f"{pattern}: fits nothing: {reason}" for pattern, reason in draft.others.items()]
    lines += [f"{one.path.name}: left out: {one.reason}" for one in left_out]
    return [*(line for one in lines for line in comment_lines(one)), *([""] if lines else [])]


def _site_name(name: str) -> str:
    """The name of a folder as that of a site may be."""
    bare = re.sub(r"[^a-z0-9]+", "-", name.casefold()).lstrip("-0123456789")
    return bare[:40].strip("-") or "site"


def _action(happening: Happening) -> DraftedAction:
    free = [one for one in happening.table.fields.values() if one.name not in happening.roles]
    column = guess_action_column(free)
    value = guess_value(
        [one for one in free if column is None or one.name != column.value], has_names=happening.table.has_header
    )
    name = _action_name(happening.table, free, value) if column is None else Guess("event", "of rows without one")
    return DraftedAction(name.value, happening, name.reason, value, column)


def _action_name(table: SampledTable, free: Sequence[Field], value: Guess | None) -> Guess:
    if (only := guess_only_action(free)) is not None:
        return only
    if value is not None:
        own = table.fields[value.value]
        is_few = not table.has_header and own.num_distinct <= 20
        counted = _COUNTED.get(bare_name(value.value)) or action_name(value.value)
        if is_rating(value.value) or is_few:
            return Guess("rating", f"by the column {value.value}")
        if counted is not None:
            return Guess(counted, f"by the column {value.value}")
    if (name := action_name(table.stem)) is not None:
        return Guess(name, f"by the file's name {Path(table.pattern).name}")
    return Guess("click", "nothing says what users did: name it")


def _action_call(action: DraftedAction, shared: Mapping[str, TypeGuess]) -> list[str]:
    one = action.happening
    names = _new_names(
        one.table,
        {"user_id": one.user, "item_id": one.item, "timestamp": one.at, "value": _field(one.table, action.value)},
    )
    arguments = [Argument([text(action.name)], action.reason), _files(one.table, names, one)]
    arguments += _ids(one, names)
    if action.value is not None:
        arguments.append(Argument([text(names[action.value.value])], _about_value(action), "value"))
    if action.column is not None:
        arguments.append(Argument([text(action.column.value)], action.column.reason, "column"))
    roles = one.roles | {guess.value for guess in (action.value, action.column) if guess is not None}
    columns = own_columns("context", one.table, names, roles, one, shared)
    return call("Action(", [*arguments, *_columns(columns)], 8)


def _impressions(one: Happening, depth: int, shared: Mapping[str, TypeGuess]) -> list[str]:
    clicked = _field(one.table, one.clicked)
    item_role = "item_id" if one.separator is None else "shown"
    names = _new_names(one.table, {"user_id": one.user, item_role: one.item, "timestamp": one.at, "clicked": clicked})
    arguments = [_files(one.table, names, one), *_ids(one, names)]
    if one.separator is not None:
        arguments.insert(3, Argument([text(one.separator)], one.about_lists, "separator"))
        if one.chosen is not None:
            arguments.insert(4, Argument([text(one.chosen.value)], one.chosen.reason, "chosen"))
    elif one.clicked is not None:
        arguments.insert(3, Argument([text(names[one.clicked.value])], one.clicked.reason, "clicked"))
    for role in ("position", "propensity", "device", "request"):
        guess: Guess | None = getattr(one, role)
        if guess is not None:
            arguments.append(Argument([text(guess.value)], guess.reason, role))
    columns = own_columns("context", one.table, names, one.roles, one, shared)
    return call("Impressions(", [*arguments, *_columns(columns)], depth)


def _ids(one: Happening, names: Mapping[str, str]) -> list[Argument]:
    arguments = [
        Argument([text(names[ids.name])], about_ids(ids), role)
        for role, ids in (("user", one.user), ("item", one.item))
    ]
    if one.at is not None:
        arguments.append(Argument([text(names[one.at.name])], about_times(one), "at"))
    return arguments


def _dimension(role: str, dimension: Dimension) -> list[str]:
    table, key = dimension.table, dimension.key
    guess = guess_role if table.has_header else guess_role_by_values
    fields = [one for one in table.fields.values() if one is not key]
    roles: dict[str, Guess] = {}
    for name in ROLE_NAMES[role]:
        if (guessed := guess(name, fields)) is not None:
            roles[name] = guessed
            fields = [one for one in fields if one.name != guessed.value]
    # Channels read titles: a file that calls them otherwise has them all the same.
    if role == "items" and "title" not in roles and (titles := guess_role_by_values("title", fields)) is not None:
        roles["title"] = titles
    if "release_year" in roles and "published_at" in roles:
        del roles["release_year"]
    named = {f"{role[:-1]}_id": key, **{name: _field(table, guessed) for name, guessed in roles.items()}}
    names = _new_names(table, named)
    about_key = f"a value of its own in each of {key.num_rows:,} rows"
    arguments = [_files(table, names), Argument([text(names[key.name])], about_key, "key")]
    for name in ROLE_NAMES[role]:
        if (guessed := roles.get(name)) is not None:
            arguments.append(Argument([text(names[guessed.value])], _about_role(name, table, guessed), name))
    used = {key.name, *(guessed.value for guessed in roles.values())}
    columns = own_columns("item" if role == "items" else "user", table, names, used)
    return call("Items(" if role == "items" else "Users(", [*arguments, *_columns(columns)], 4)


def _about_role(name: str, table: SampledTable, guessed: Guess) -> str:
    if name == "category" and (separator := guess_separator(table.fields[guessed.value])) not in (None, "|", " "):
        return f'{guessed.reason}; several in a cell, with "{separator}" between them'
    return guessed.reason


def _new_names(table: SampledTable, roles: Mapping[str, Field | None]) -> dict[str, str]:
    """Names of the columns; of a file without header, those of the roles."""
    names = {name: name for name in table.fields}
    if not table.has_header:
        names |= {one.name: role for role, one in roles.items() if one is not None}
    return names


def _field(table: SampledTable, guess: Guess | None) -> Field | None:
    return None if guess is None else table.fields[guess.value]


def _files(table: SampledTable, names: Mapping[str, str], one: Happening | None = None) -> Argument:
    arguments = [Argument([text(table.pattern)])]
    comment = table.dialect.describe()
    if "{date}" in table.pattern:
        comment += "; {date} is the day that is run"
    if not table.has_header:
        header = ", ".join(text(names[name]) for name in table.fields)
        arguments.append(Argument([f"({header},)" if len(names) == 1 else f"({header})"], name="header"))
    if one is not None and isinstance(one.time_format, str):
        arguments.append(Argument([text(_ambiguous(one))], name="time_format"))
        comment += "; the day or the month may be first: time_format says which"
    if one is not None and one.at is None:
        last_change = datetime.fromtimestamp(table.files[0].stat().st_mtime, UTC)
        day = "name" if has_date_in_name(table) else last_change.date().isoformat()
        arguments.append(Argument([text(day)], name="day"))
        comment += "; no column of times: the rows are of " + (
            "the day in their file's name"
            if day == "name"
            else "the day of the file's last change: write the right one"
        )
    return Argument(call("Files(", arguments, 8), comment)


def _ambiguous(one: Happening) -> str:
    """A pattern for dates of which the day or the month may be first."""
    assert one.at is not None
    example = str(one.at.counts.index[0])
    separator = next((sign for sign in "/-." if sign in example), "/")
    seconds = ":ss" if example.count(":") > 1 else ""
    return f"d{separator}M{separator}yyyy" + (f" H:mm{seconds}" if ":" in example else "")


def _columns(columns: Mapping[str, TypeGuess]) -> list[Argument]:
    """The argument `columns`; comments alone for columns that are left out."""
    entries: list[Argument] = []
    for name, guess in columns.items():
        code = [f"{text(name)}: {guess.code}"] if guess.code is not None else []
        entries.append(Argument(code, guess.reason if guess.code else f"{name}: {guess.reason}"))
    if not any(entry.lines for entry in entries):
        return [Argument([], entry.comment) for entry in entries]
    return [Argument(call("{", entries, 8, close="}"), name="columns")]


def _about_value(action: DraftedAction) -> str:
    assert action.value is not None
    own = action.table.fields[action.value.value]
    bounds = ", ".join(f"≥ {number(one.at_least)}: {one.share:.1%}" for one in thresholds(own)[:10])
    return f"{action.value.reason}" + (f"; shares of the rows {bounds}" if bounds else "")


def _label(draft: Draft) -> Iterator[Argument]:
    """The label: what models learn where nothing says what was shown."""
    if draft.impressions or not draft.actions:
        return
    for action in draft.actions:
        if action.column is not None:
            name, reason = _most_worth(action.table.fields[action.column.value])
            yield Argument([f"Label({text(name)})"], reason, "label")
            return
    action = max(draft.actions, key=_worth)
    threshold, reason = None, "every row of it is a positive"
    if action.value is not None and (bound := guess_threshold(action.table.fields[action.value.value])) is not None:
        threshold, reason = bound, f"{bound.share:.1%} of the rows are positives"
    bound_code = f", at_least={threshold.at_least:g}" if threshold else ""
    yield Argument([f"Label({text(action.name)}{bound_code})"], reason, "label")


def _lists(draft: Draft) -> Iterator[Argument]:
    """Lists of what users did, beside the history of what they chose."""
    if not draft.impressions and len(draft.actions) < 2:
        return
    names = dict.fromkeys(action.name for action in draft.actions if action.column is None)
    lists = [
        Argument([f"Last({text(name)})"], "the items that a user did it with last, for deep models") for name in names
    ]
    if lists:
        yield Argument(call("[", lists, 4, close="]"), name="features")


def _has_counts(draft: Draft) -> Iterator[Argument]:
    """Whether the days of the rows are real ones."""
    happenings = [*(one.happening for one in draft.actions), *draft.impressions]
    if happenings and all(one.at is None and not has_date_in_name(one.table) for one in happenings):
        yield Argument(["False"], "rows without times: nothing can be counted before their day", "has_counts")


def _worth(action: DraftedAction) -> tuple[bool, int]:
    rank = ACTION_NAMES.index(action.name) if action.name in ACTION_NAMES else len(ACTION_NAMES)
    return action.value is not None and is_rating(action.value.value), -rank


def _most_worth(column: Field) -> tuple[str, str]:
    """The action that is worth most among those that are frequent enough, else the most frequent."""
    counts = {str(name): int(count) for name, count in column.counts.items()}
    for known in ACTION_NAMES:
        for name, count in counts.items():
            if action_name(name) == known and count >= min(_MIN_POSITIVES, 0.01 * column.num_rows):
                return name, f"{count / column.num_rows:.1%} of the rows: {shares(column)}"
    name = next(iter(counts))
    return name, f"the most frequent, since none has a usual name: {shares(column)}"
