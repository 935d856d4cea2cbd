"""The columns of a table that have no role: which become features, of what type, and why others are left out."""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import pandas as pd

from conf.site import own_name
from conf.site.columns import Owner
from etl.site.column_types import TypeGuess, depends_on, guess_type
from etl.site.fields import Field, SampledTable, shares
from etl.site.guesses import is_yes_or_no, share_of_positives
from etl.site.parts import Happening
from etl.site.words import is_known_afterwards, outcome_name

_MANY = 200  # columns, of which no reader wants to know each
_FEATURE_NAME = re.compile(r"[a-z][a-z0-9_]{0,79}")


def own_columns(
    owner: Owner,
    table: SampledTable,
    names: Mapping[str, str],
    roles: set[str],
    one: Happening | None = None,
    shared: Mapping[str, TypeGuess] = MappingProxyType({}),
) -> dict[str, TypeGuess]:
    """The type of each column without a role.

    Args:
        owner: whose columns they are.
        table: with the columns.
        names: of the columns -> as the declaration has them.
        roles: columns that are something else already.
        one: what happened, where the table has that.
        shared: types of columns that several such tables have.
    """
    columns: dict[str, TypeGuess] = {}
    features: set[str] = set()
    for position, (name, own) in enumerate(table.fields.items(), start=1):
        if name not in roles:
            guess = _own_type(own, table, one, shared.get(name))
            columns[names[name]] = _named(guess, owner, own_name(owner, names[name]), position, features)
    return columns


def shared_types(tables: Sequence[SampledTable]) -> dict[str, TypeGuess]:
    """Types of columns that several tables have: one for all of them, by all their values."""
    names = [name for table in tables for name in table.fields]
    types: dict[str, TypeGuess] = {}
    for name in {name for name in names if names.count(name) > 1}:
        members = [table for table in tables if name in table.fields]
        texts = pd.concat([table.fields[name].texts for table in members], ignore_index=True)
        joined = Field(name, texts, members[0].dialect.decimal)
        types[name] = guess_type(joined, sum(table.num_rows for table in members))
    return types


def _named(guess: TypeGuess, owner: Owner, feature: str, position: int, features: set[str]) -> TypeGuess:
    """The type with a name of its feature, where the column's own can be none or is another's."""
    if guess.code is None:
        return guess
    if _FEATURE_NAME.fullmatch(feature) and feature not in features:
        features.add(feature)
        return guess
    if guess.code == "Text()":
        return TypeGuess(None, f"{guess.reason}; left out: no feature can be called {feature}")
    options = guess.code.removesuffix(")") + ("" if guess.code.endswith("()") else ", ")
    return TypeGuess(f'{options}name="{owner}_column_{position}")', guess.reason)


def _own_type(own: Field, table: SampledTable, one: Happening | None, shared: TypeGuess | None) -> TypeGuess:
    guess = shared or guess_type(own, table.num_rows)
    if one is None or guess.code is None:
        return guess
    if one.is_shown and is_yes_or_no(own) and (name := outcome_name(own.name)) is not None:
        return TypeGuess(f'Outcome("{name}")', f"{share_of_positives(own):.1%} of the rows are yes: came of the click")
    if is_known_afterwards(own.name):
        return TypeGuess(None, f"by its name known only afterwards: left out ({shares(own, 3)})")
    if guess.code == "Text()":
        return guess
    # Beside sampled negatives it would say which item was chosen.
    if not one.is_shown and depends_on(own, one.item):
        return TypeGuess(
            None, f"the same in all rows of an item: left out, it belongs into a table of items ({guess.reason})"
        )
    if len(table.fields) <= _MANY and depends_on(own, one.user):
        return TypeGuess(guess.code, f"{guess.reason}; the same in all rows of a user")
    return guess
