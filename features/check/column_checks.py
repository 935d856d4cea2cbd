"""Own columns and roles of one part: missing ones, empty ones, types that do not fit, ids that are shared."""

import difflib
import math
from collections.abc import Iterator

import pandas as pd

from conf.site import Category, Number, Outcome, Query, Tags, Text, Tokens, Vector, Weight
from conf.site.checks import ROLES
from conf.site.columns import MAX_SLOTS, ColumnType
from conf.site.declaration import place_of
from etl.site.column_types import buckets_for
from etl.sources.dialect import Dialect
from etl.sources.pandas_values import to_ids, to_numbers, trimmed
from etl.sources.texts import LIST, list_parts, tokens_of, vector_of, yes_no_of
from features.check.part_sample import Finding, PartSample
from features.transforms.hashing import slot_of

_MOSTLY = 0.5
_SINGLE = 0.9  # of the rows: values that hardly any other row has
_MIN_ROWS = 100
_NUM_NAMES = 20
_LEFT_OUT = 0.3  # of a text's words


def column_findings(sample: PartSample) -> Iterator[Finding]:
    """What is wrong with the columns of a part."""
    yield from _missing_columns(sample)
    for name, kind in sample.part.columns.items():
        if name in sample.frame:
            texts = trimmed(sample.frame[name])
            if texts.notna().any():
                place = place_of(kind)
                if len(texts) > 1 and texts.nunique() == 1 and texts.notna().all():
                    text = f'"{name}" is {texts.iloc[0]!r} in all {len(texts):,} rows: nothing to learn from it. '
                    yield Finding(place, f"{text}Leave it out.", is_fault=False)
                yield from _type_findings(place, name, kind, texts, sample)
            else:
                text = f'"{name}" has no value in {len(texts):,} rows. Leave it out.'
                yield Finding(place_of(kind), text, is_fault=False)


def _missing_columns(sample: PartSample) -> Iterator[Finding]:
    names = list(map(str, sample.frame.columns))
    listed = names if len(names) <= _NUM_NAMES else [*names[:_NUM_NAMES], f"and {len(names) - _NUM_NAMES} more"]
    declared = {role: getattr(sample.part, role) for role in ROLES[type(sample.part)]}
    for role, name in declared.items():
        if name is not None and name not in names:
            hint = _near(name, names, listed)
            yield Finding(sample.place, f'{sample.kind}: {role} is "{name}", a column that {_file(sample)} lacks{hint}')
    for name, kind in sample.part.columns.items():
        if name not in names:
            hint = _near(name, names, listed)
            yield Finding(place_of(kind), f'{sample.kind}: no column "{name}" in {_file(sample)}{hint}')


def _near(name: str, names: list[str], listed: list[str]) -> str:
    """The end of a message: the nearest name, however large its letters are, and all of them."""
    by_spelling = {other.casefold(): other for other in names}
    near = difflib.get_close_matches(name.casefold(), by_spelling, n=1)
    hint = f'; did you mean "{by_spelling[near[0]]}"?' if near else "."
    return f"{hint} There are: {', '.join(listed)}."


def _file(sample: PartSample) -> str:
    if isinstance(sample.part.source, Query):
        return "the query"
    more = f" and {len(sample.files) - 1} more" if len(sample.files) > 1 else ""
    return f"{sample.files[0].name}{more}"


def _type_findings(place: str, name: str, kind: ColumnType, texts: pd.Series, sample: PartSample) -> Iterator[Finding]:
    if isinstance(kind, Number):
        yield from _no_numbers(place, name, texts, sample)
    elif isinstance(kind, Category):
        yield from _category_findings(place, name, kind, texts)
    elif isinstance(kind, Tags):
        yield from _tags_findings(place, name, kind, texts)
    elif isinstance(kind, Tokens):
        yield from _tokens_findings(place, name, kind, texts)
    elif isinstance(kind, Vector):
        yield from _vector_findings(place, name, kind, texts, sample)
    elif isinstance(kind, Outcome):
        yield from _outcome_findings(place, name, kind, texts, sample)
    elif isinstance(kind, Weight):
        yield from _weight_findings(place, name, texts, sample)
    else:
        assert isinstance(kind, Text)


def _no_numbers(place: str, name: str, texts: pd.Series, sample: PartSample) -> Iterator[Finding]:
    """Text in a column of numbers: a fault where most of it is no number, else it counts as missing."""
    # A word for none is no surprise.
    filled = to_ids(texts).dropna()
    wrong = filled[to_numbers(filled, sample.dialect.decimal).isna()]
    if wrong.empty:
        return
    example = f"{sample.where(wrong.index[0])}, {wrong.iloc[0][:60]!r}"
    share = len(wrong) / len(filled)
    cure = (
        "Declare it Category."
        if share > _MOSTLY
        else "They count as missing; declare it Category if they mean something."
    )
    kind = type(sample.part.columns[name]).__name__
    text = f'"{name}" is a {kind}, but {len(wrong):,} of {len(filled):,} rows hold text (first: {example}). {cure}'
    yield Finding(place, text, is_fault=share > _MOSTLY)


def _outcome_findings(place: str, name: str, kind: Outcome, texts: pd.Series, sample: PartSample) -> Iterator[Finding]:
    """Cells that are neither yes nor no, and an outcome that no row has."""
    labels = texts.map(lambda text: yes_no_of(text, kind.at_least, sample.dialect.decimal))
    if len(wrong := texts[labels.isna()]):
        wanted = "yes nor no" if kind.at_least is None else "empty nor a number"
        evidence = (
            f"{len(wrong):,} of {len(texts):,} rows are neither {wanted} (first: {sample.where(wrong.index[0])}, "
        )
        share = len(wrong) / len(texts)
        cure = "Name another column, or say at_least=…." if share > _MOSTLY else "No model learns from them."
        yield Finding(place, f'"{name}": {evidence}{wrong.iloc[0][:60]!r}). {cure}', is_fault=share > _MOSTLY)
    elif not (labels == 1).any():
        yield Finding(
            place, f'"{name}" is true of none of {len(texts):,} rows. Leave it out, or lower at_least.', False
        )


def _weight_findings(place: str, name: str, texts: pd.Series, sample: PartSample) -> Iterator[Finding]:
    yield from _no_numbers(place, name, texts, sample)
    numbers = to_numbers(texts, sample.dialect.decimal)
    if len(negative := numbers[numbers < 0]):
        example = f"{sample.where(negative.index[0])}, {negative.iloc[0]:g}"
        text = f'"{name}" is a Weight, and negative in {len(negative):,} rows (first: {example}). Name another column.'
        yield Finding(place, text)


def _category_findings(place: str, name: str, kind: Category, texts: pd.Series) -> Iterator[Finding]:
    counts = texts.value_counts()
    num_filled = int(counts.sum())
    if num_filled >= _MIN_ROWS and len(counts) > _SINGLE * num_filled:
        text = (
            f'"{name}" has {len(counts):,} values in {num_filled:,} rows: hardly one comes twice. Declare it Text, or '
            "a Number if it is an amount."
        )
        yield Finding(place, text, is_fault=False)
    elif kind.is_feature and not kind.is_number:
        yield from _crowded(place, name, len(counts), kind.buckets)


def _tags_findings(place: str, name: str, kind: Tags, texts: pd.Series) -> Iterator[Finding]:
    tags = texts.dropna().map(lambda text: list_parts(text, kind.separator)).explode()
    is_several = texts.str.contains(kind.separator, regex=False, na=False) | texts.str.match(LIST, na=False)
    if len(texts) >= _MIN_ROWS and not is_several.any():
        other = next((sign for sign in "|,;/^" if texts.str.contains(sign, regex=False, na=False).mean() > 0.1), None)
        cure = f'Write separator="{other}".' if other else "Declare it Category."
        yield Finding(place, f'"{name}": no cell has the separator {kind.separator!r}. {cure}')
    elif kind.is_feature:
        yield from _crowded(place, name, int(tags.nunique()), kind.buckets)


def _tokens_findings(place: str, name: str, kind: Tokens, texts: pd.Series) -> Iterator[Finding]:
    """Cells of one word each, and more words than there is room for; neither is a fault."""
    tokens = texts.dropna().map(tokens_of)
    num_tokens = tokens.map(len)
    if len(tokens) >= _MIN_ROWS and num_tokens.median() <= 1:
        yield Finding(place, f'"{name}" has one word in most cells. Declare it Category.', is_fault=False)
    elif kind.is_feature and len(tokens):
        # A slot is read once: what a cell has beside its first word is left out.
        num_read = tokens.map(lambda words: len({slot_of(word, kind.slots) for word in words}))
        share = 1 - num_read.sum() / max(num_tokens.sum(), 1)
        if share > _LEFT_OUT and kind.slots < MAX_SLOTS:
            enough = min(MAX_SLOTS, 2 * math.ceil(num_tokens.quantile(0.9)))
            evidence = (
                f'"{name}" has {num_tokens.mean():.0f} words in a cell and {kind.slots} slots: {share:.0%} of them'
            )
            if enough > kind.slots:
                yield Finding(place, f"{evidence} are left out. Write slots={enough}.", is_fault=False)
        # Each slot has buckets of its own.
        yield from _crowded(place, name, math.ceil(tokens.explode().nunique() / kind.slots), kind.buckets)


def _vector_findings(place: str, name: str, kind: Vector, texts: pd.Series, sample: PartSample) -> Iterator[Finding]:
    """Cells that are no vector of the declared size: a fault where most are none, else they count as missing."""
    vectors = to_ids(texts).dropna().map(vector_of)
    sizes = vectors.map(lambda vector: 0 if vector is None else len(vector))
    wrong = sizes[sizes != kind.size]
    if wrong.empty:
        return
    is_fault = len(wrong) > _MOSTLY * len(sizes)
    first = f"{wrong.iloc[0]} numbers" if wrong.iloc[0] else f"{texts[wrong.index[0]][:60]!r}"
    common = int(sizes.mode().iloc[0])
    cure = (f"Write Vector({common})." if common > 1 else "Declare it Text.") if is_fault else "They count as missing."
    evidence = f"{len(wrong):,} of {len(sizes):,} rows hold no vector of {kind.size} numbers"
    yield Finding(place, f'"{name}": {evidence} (first: {sample.where(wrong.index[0])}, {first}). {cure}', is_fault)


def _crowded(place: str, name: str, num_values: int, buckets: int) -> Iterator[Finding]:
    """More values than half of the buckets: most share theirs with another."""
    if num_values > buckets / 2:
        evidence = f'"{name}" has {num_values:,} values in {buckets:,} buckets: most share one'
        yield Finding(place, f"{evidence}. Write buckets={buckets_for(num_values)}.", is_fault=False)


def describe_columns(sample: PartSample) -> list[tuple[str, ...]]:
    """Column, what it is, share without a value, distinct values, and an example or range, of every declared column."""
    rows: list[tuple[str, ...]] = []
    roles = {name: role for role, name in sample.roles.items()}
    for name in [*roles, *(name for name in sample.part.columns if name in sample.frame)]:
        kind = sample.part.columns.get(name)
        texts = to_ids(sample.frame[name])
        what = roles.get(name) or type(kind).__name__
        rows.append(
            (name, what, f"{texts.isna().mean():.1%}", f"{texts.nunique():,}", _range(kind, texts, sample.dialect))
        )
    return rows


def _range(kind: ColumnType | None, texts: pd.Series, dialect: Dialect) -> str:
    if isinstance(kind, Number):
        numbers = to_numbers(texts, dialect.decimal)
        return f"{numbers.min():,.6g} to {numbers.max():,.6g}" if numbers.notna().any() else ""
    first = texts.dropna()
    return "" if first.empty else str(first.iloc[0])[:30]
