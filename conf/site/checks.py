"""What can be wrong with a declaration whose values are each right."""

import keyword
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date

from conf.site.columns import (
    BUILT_IN_COLUMNS,
    ITEM_COLUMNS,
    Category,
    ColumnType,
    FeatureType,
    Number,
    Outcome,
    Owner,
    Tags,
    Tokens,
    Vector,
    Weight,
    feature_name,
)
from conf.site.declaration import Fault, did_you_mean, place_of
from conf.site.features import Dense, Sparse
from conf.site.site import Action, Cross, Impressions, Items, Last, Rate, Site, Users
from conf.site.sources import DAY_BY_NAME, Files, Query, decimal_of

_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
# What Spark SQL, Parquet and Python all take as a name.
_FEATURE_NAME = re.compile(r"[a-z][a-z0-9_]{0,79}")
_LITERALS = ("true", "false", "null")
# Columns of examples and dimensions, beside those that sources of features name.
ROW_COLUMNS = frozenset(
    {
        *(
            "example_id",
            "user_id",
            "item_id",
            "at",
            "at_s",
            "day",
            "dt",
            "position",
            "device",
            "label",
            "propensity",
            "context",
            "weight",
        ),
        *("features", "split", "part", "history", "expected", "item_code", "title", "category", "categories", "author"),
        *("published_at", "gender", "age_group", "city", "registered_at", "attributes"),
    }
)
# Options of a part that name a column, which is no own one.
ROLES: Mapping[type, Sequence[str]] = {
    Items: ("key", "title", "category", "author", "published_at", "release_year"),
    Users: ("key", "gender", "age", "city", "registered_at"),
    Action: ("user", "item", "at", "value", "column", "request"),
    Impressions: ("user", "item", "clicked", "chosen", "at", "position", "propensity", "device", "request"),
}


Part = Items | Users | Action | Impressions


def site_faults(site: Site) -> list[Fault]:
    """Every fault of a site that shows without its data."""
    parts = site_parts(site)
    return [
        *_basics(site),
        *(fault for part in parts for fault in _columns_of(part)),
        *_own_names(parts),
        *_label(site),
        *_clicks_of_actions(site),
        *_features(site),
    ]


def site_parts(site: Site) -> list[Part]:
    """The parts of a site that have a source."""
    impressions = [site.impressions] if isinstance(site.impressions, Impressions) else site.impressions
    return [part for part in (site.items, site.users, *site.actions, *impressions) if part is not None]


def own_columns(site: Site) -> dict[str, ColumnType]:
    """Type of each column of the site's own, by the name that features use."""
    columns: dict[str, ColumnType] = {}
    for part in site_parts(site):
        columns |= {feature_name(owner_of(part), name, kind): kind for name, kind in part.columns.items()}
    return columns


def owner_of(part: Part) -> Owner:
    """Whose columns a part's are: `item`, `user`, or `context` of what happened."""
    if isinstance(part, Items):
        return "item"
    return "user" if isinstance(part, Users) else "context"


def _basics(site: Site) -> Iterator[Fault]:
    if not _NAME.fullmatch(site.name):
        yield Fault(place_of(site), f'Site: "name" is {site.name!r}: small letters, digits and hyphens, at most 40')
    if not site.actions and not site.impressions:
        yield Fault(place_of(site), "Site: nothing to learn from: declare actions or impressions")


def _columns_of(part: Part) -> Iterator[Fault]:
    roles = {name: value for name in ROLES[type(part)] if (value := getattr(part, name)) is not None}
    kind, place = type(part).__name__, place_of(part)
    if isinstance(part, Impressions):
        if part.clicked_by is not None and (part.clicked or part.chosen):
            yield Fault(place, 'Impressions: rows of an action are the clicks ("clicked_by"): no other column says so')
        elif part.clicked_by is None and (part.clicked is None) == (part.separator is None):
            cure = '"clicked", "separator" for lists in a cell, or "clicked_by" for rows of an action'
            yield Fault(place, f"Impressions: say which rows are clicks: {cure}")
        if part.separator is not None and part.position is not None:
            yield Fault(place, 'Impressions: with "separator" the position is the place in the list; leave it out')
        if part.separator is not None and part.propensity is not None:
            text = "a propensity is of one item at one place, not of a list in a cell: write a row for each item"
            yield Fault(place, f'Impressions: "propensity": {text}')
        if part.chosen is not None and part.separator is None:
            yield Fault(place, 'Impressions: "chosen" is for rows that are lists: say what separates the items')
        if part.at_least is not None and part.clicked is None:
            yield Fault(place, 'Impressions: "at_least" is of the numbers of "clicked": name that column')
    for column, uses in Counter(roles.values()).items():
        if uses > 1:
            names = " and ".join(name for name, value in roles.items() if value == column)
            yield Fault(place, f'{kind}: column "{column}" is both {names}')
    for column, own in part.columns.items():
        if column in roles.values():
            role = next(name for name, value in roles.items() if value == column)
            # The title's words are features beside the title, which lists and channels read.
            if role == "title" and isinstance(own, Tokens):
                continue
            yield Fault(place, f'{kind}: column "{column}" is the {role} already; leave it out of columns')
    yield from _day_of(part)
    yield from _labels_of(part)


def _labels_of(part: Part) -> Iterator[Fault]:
    """Faults of the columns that are labels or weights."""
    kind, outcomes = type(part).__name__, set()
    for column, own in part.columns.items():
        if isinstance(own, Outcome):
            if not isinstance(part, Impressions):
                yield Fault(place_of(own), f'{kind}: column "{column}" is an Outcome, which only Impressions have')
            if not is_feature_name(own.label):
                yield Fault(place_of(own), f"Outcome: its name is {own.name!r}: a to z, 0 to 9 and _, at most 70")
            if own.name in outcomes:
                yield Fault(place_of(own), f'Outcome "{own.name}": another column has that name')
            outcomes.add(own.name)
        if isinstance(own, Weight) and isinstance(part, Items | Users):
            yield Fault(place_of(own), f'{kind}: column "{column}" is a Weight, which only rows that happened have')
    weights = [column for column, own in part.columns.items() if isinstance(own, Weight)]
    if len(weights) > 1:
        yield Fault(place_of(part), f"{kind}: {' and '.join(weights)} are both the Weight of the row")


def _day_of(part: Part) -> Iterator[Fault]:
    kind, source = type(part).__name__, part.source
    if isinstance(source, Query):
        yield from (Fault(place_of(source), text) for text in source.faults())
    if not isinstance(part, Items | Users) and part.at is None and source.day is None:
        yield Fault(
            place_of(part), f'{kind}: no time: name its column with "at", or say the day of the rows with day=…'
        )
    if source.day is None or (source.day == DAY_BY_NAME and isinstance(source, Files)):
        return
    try:
        date.fromisoformat(source.day)
    except ValueError:
        yield Fault(place_of(source), f'"day" is {source.day!r}: write it as 2026-01-07')


def _own_names(parts: Sequence[Part]) -> Iterator[Fault]:
    """Faults of the names of columns that become features: each stands for one column, read in one way."""
    declared: dict[str, tuple[tuple[str, str, ColumnType, str], str]] = {}
    for part in parts:
        decimal = decimal_of(part.source)
        for column, kind in part.columns.items():
            if not isinstance(kind, FeatureType):
                continue
            place = place_of(part)
            reading = (owner_of(part), column, kind, decimal if isinstance(kind, Number) else "")
            for name in expanded_names(feature_name(owner_of(part), column, kind), kind):
                if not is_feature_name(name):
                    cure = "give it another one, of a to z, 0 to 9 and _, with name=…"
                    yield Fault(place, f'column "{column}" would be the feature {name}: {cure}')
                other, other_place = declared.setdefault(name, (reading, place))
                if other[:2] != reading[:2]:
                    yield Fault(place, f'columns "{other[1]}" ({other_place}) and "{column}" would both be {name}')
                elif other != reading:
                    yield Fault(place, f'column "{column}" is read in another way at {other_place}')


def expanded_names(name: str, kind: ColumnType) -> tuple[str, ...]:
    """Names of the columns of a row: one, or one for each slot of tags or tokens, or number of a vector."""
    if not isinstance(kind, Tags | Tokens | Vector):
        return (name,)
    size = kind.size if isinstance(kind, Vector) else kind.slots
    return tuple(f"{name}_{slot}" for slot in range(1, size + 1))


def is_feature_name(name: str) -> bool:
    """Whether Spark SQL, Parquet and Python all take a name as that of a column, and no site's rows have it already."""
    is_reserved = keyword.iskeyword(name) or name in (*_LITERALS, *ROW_COLUMNS)
    return _FEATURE_NAME.fullmatch(name) is not None and not is_reserved


def _label(site: Site) -> Iterator[Fault]:
    if site.label is None:
        return
    if site.impressions:
        yield Fault(place_of(site.label), "Label: with impressions the label is their click; leave it out")
    names = [action.name for action in site.actions]
    may_be_any = any(action.column for action in site.actions)
    if site.label.action not in names and not may_be_any:
        text = f'Label: no action "{site.label.action}"{did_you_mean(site.label.action, names)}'
        yield Fault(place_of(site.label), text)
    has_value = any(action.value for action in site.actions if action.name == site.label.action or action.column)
    if site.label.at_least is not None and not has_value:
        yield Fault(place_of(site.label), f'Label: at_least needs a value: "{site.label.action}" names no such column')


def _clicks_of_actions(site: Site) -> Iterator[Fault]:
    shown = [part for part in site_parts(site) if isinstance(part, Impressions)]
    rules = [part.clicked_by for part in shown if part.clicked_by is not None]
    if rules and any(part.clicked_by != rules[0] for part in shown):
        yield Fault(place_of(shown[0]), "Impressions: all of them have the same clicked_by, or none has")
    names = [action.name for action in site.actions]
    if rules and rules[0].action not in names and not any(action.column for action in site.actions):
        text = f'ClickedBy: no action "{rules[0].action}"{did_you_mean(rules[0].action, names)}'
        yield Fault(place_of(rules[0]), text)
    for action in site.actions:
        if action.request is not None and not any(part.request for part in shown):
            yield Fault(place_of(action), 'Action: "request" is of a list that was shown, and no Impressions names one')


def _features(site: Site) -> Iterator[Fault]:
    columns = own_columns(site)
    slots = [name for own, kind in columns.items() for name in expanded_names(own, kind)]
    # By the name that features use; of two parts that give one name, the later one owns it.
    owners = {
        feature_name(owner_of(part), name, kind): owner_of(part)
        for part in site_parts(site)
        for name, kind in part.columns.items()
    }
    of_context = {name for name, owner in owners.items() if owner == "context"}
    crosses = {feature.feature: feature for feature in site.features if isinstance(feature, Cross)}
    names = Counter(map(_name_of, site.features))
    for feature in site.features:
        name = _name_of(feature)
        kind, place = f'{type(feature).__name__} "{name}"', place_of(feature)
        if names[name] > 1 or name in (*columns, *slots):
            yield Fault(place, f"{kind}: another feature has that name; give it one of its own with name=…")
        if not is_feature_name(name):
            yield Fault(place, f"{kind}: give it another name, of a to z, 0 to 9 and _, at most 80")
        if isinstance(feature, Last):
            yield from (Fault(place, f"{kind}: {text}") for text in _last_faults(site, feature, owners))
        if not isinstance(feature, Cross | Rate):
            continue
        inputs = feature.columns if isinstance(feature, Cross) else feature.by
        if len(set(inputs)) < len(inputs) or len(inputs) < (2 if isinstance(feature, Cross) else 1):
            least = "two columns or more" if isinstance(feature, Cross) else "one column or more"
            yield Fault(place, f"{kind}: it is of {least}, each once")
        may_be = [*columns, *BUILT_IN_COLUMNS, *(crosses if isinstance(feature, Cross) else ())]
        for name in inputs:
            if name not in may_be:
                yield Fault(place, f'{kind}: no column "{name}"{did_you_mean(name, may_be)}')
            elif not isinstance(columns.get(name, Category()), Category | Tags):
                article = "a " if isinstance(columns[name], Number | Vector) else ""
                own = f"{article}{type(columns[name]).__name__}"
                yield Fault(place, f'{kind}: "{name}" is {own}; declare it Category to cross or count by it')
        if isinstance(feature, Rate) and not site.has_counts:
            yield Fault(place, f"{kind}: the site has no counts (has_counts=False)")
        if isinstance(feature, Rate) and not site.impressions:
            # What was shown is what a server reads to count; sampled negatives have their positive's context.
            for name in inputs:
                if name in ("device", "position") or name in of_context:
                    yield Fault(place, f'{kind}: without impressions nothing can be counted by "{name}"')
        if isinstance(feature, Cross) and _is_circular(feature, crosses):
            yield Fault(place, f"{kind}: it is made of itself")


def _last_faults(site: Site, last: Last, owners: Mapping[str, Owner]) -> Iterator[str]:
    """What is wrong with the list of a user's last acts."""
    names = action_names(site)
    if last.action not in names and not any(action.column for action in site.actions):
        yield f'no action "{last.action}"{did_you_mean(last.action, names)}'
    has_value = any(action.value for action in site.actions if action.name == last.action or action.column)
    if last.at_least is not None and not has_value:
        yield f'at_least needs a value: "{last.action}" names no such column'
    columns = own_columns(site)
    of_items = [name for name, owner in owners.items() if owner == "item"]
    may_be = [*ITEM_COLUMNS, *of_items]
    if last.of not in may_be:
        yield f'no column "{last.of}" of the items{did_you_mean(last.of, may_be)}'
    elif last.of in of_items and not (isinstance(kind := columns[last.of], Category | Tags) and kind.is_feature):
        yield f'"{last.of}" is no sparse feature of the items: declare it Category or Tags'


def action_names(site: Site) -> list[str]:
    """Names of what users do: the declared actions, and the click of impressions."""
    names = dict.fromkeys(action.name for action in site.actions)
    return [*names, *(["click"] if site.impressions and "click" not in names else [])]


def _name_of(feature: Cross | Rate | Last | Sparse | Dense) -> str:
    return feature.name if isinstance(feature, Sparse | Dense) else feature.feature


def _is_circular(feature: Cross, crosses: Mapping[str, Cross]) -> bool:
    seen: set[str] = set()
    todo = list(feature.columns)
    while todo:
        name = todo.pop()
        if name == feature.feature:
            return True
        if name in crosses and name not in seen:
            seen.add(name)
            todo += crosses[name].columns
    return False
