"""One guess a function: what a column is, from its values first and its name second, with the figures that say so."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from conf.site.columns import MAX_BUCKETS
from etl.ingest.columns import USUAL_NAMES
from etl.site.fields import Field
from etl.site.words import CLICK_NAMES, is_named, is_of_one_occasion
from etl.sources.dialect import bare_name
from etl.sources.times import TimeFormat

_BINARY = ({"0", "1"}, {"-1", "1"}, {"0.0", "1.0"}, {"true", "false"}, {"yes", "no"}, {"y", "n"}, {"t", "f"})
_POSITIVE = ("1", "1.0", "true", "yes", "y", "t")
_TIME_NAMES = (
    *USUAL_NAMES["ratings"]["timestamp"],
    *("timestamp", "time_stamp", "created_at", "created", "rated_at", "ordered_at", "order_date", "purchase_date"),
    *("purchased_at", "viewed_at", "clicked_at", "event_timestamp", "unixtime", "date_time", "day", "timestamp_ms"),
)
_VALUE_NAMES = (*USUAL_NAMES["ratings"]["value"], "quantity", "qty", "amount", "book_rating", "listen_count", "clicks")
_RATING_NAMES = ("rating", "stars", "score", "book_rating", "bookrating", "user_rating", "review_score")
_ACTION_COLUMNS = (*USUAL_NAMES["ratings"]["action"], "action", "event_name", "interaction_type", "type")
_MAX_ACTIONS = 30
_FEW = 20  # distinct whole numbers are names of something rather than amounts
_TAG_SEPARATORS = ("|", ";", "^", ",", " ")
_LONG_CHARS, _LONG_WORDS = 40, 3
_LARGE_SPREAD = 100.0
_COUNT_WORDS = (
    "age",
    "count",
    "cnt",
    "num",
    "number",
    "price",
    "amount",
    "quantity",
    "score",
    "rating",
    "days",
    "hours",
)
_PER_VALUE = 10  # buckets
_MIN_KEYS, _DEPENDENT = 10, 0.95
_GENDERS = {"m", "f", "male", "female", "w", "d", "o", "other", "unknown", "u", "x", "man", "woman"}


@dataclass(frozen=True)
class Guess:
    """What a column is thought to be."""

    value: str
    reason: str
    """The figures behind it."""


def guess_click(field: Field) -> Guess | None:
    """Whether a column says what was clicked: two values that are yes and no, and a name of such a column."""
    values = {str(value).casefold() for value in field.counts.index}
    if field.num_missing or values not in _BINARY or not is_named(field.name, CLICK_NAMES):
        return None
    return Guess(field.name, f"{share_of_positives(field):.1%} of the rows are 1")


def share_of_positives(field: Field) -> float:
    """Share of the rows whose value is 1, or a word for yes."""
    is_positive = field.counts.index.str.casefold().isin(_POSITIVE)
    return float(field.counts[is_positive].sum()) / max(field.num_rows, 1)


def guess_time(fields: Sequence[Field], *, has_names: bool = True) -> tuple[Field, TimeFormat | str] | None:
    """The column of times of what happened, with its format, or with why that can't be told.

    A number of seconds is a time only by its column's name: ids may be in that range. Written times are always.

    Args:
        fields: columns that are nothing else.
        has_names: whether the file has a header; without one, a number in the range of such times is taken for one.
    """
    usual = [bare_name(name) for name in _TIME_NAMES]
    candidates: list[tuple[int, int, Field, TimeFormat | str]] = []
    for position, field in enumerate(fields):
        name = bare_name(field.name)
        is_usual = name in usual or name.endswith(("timestamp", "datetime"))
        form = field.time_format if field.share_missing < 0.5 else None
        if form is not None and (is_usual or not has_names or not field.is_number):
            candidates.append((0 if is_usual else 1, position, field, form))
    if not candidates:
        return None
    *_, field, form = min(candidates, key=lambda candidate: candidate[:2])
    return field, form


def guess_value(fields: Sequence[Field], *, has_names: bool = True) -> Guess | None:
    """The column of ratings, counts or amounts; without names, that of few whole or half numbers."""
    for name in _VALUE_NAMES:
        for field in fields:
            if is_named(field.name, [name]) and field.is_number and field.num_distinct > 1:
                return Guess(field.name, f"{number(field.numbers.min())} to {number(field.numbers.max())}")
    for field in fields if not has_names else ():
        numbers = field.numbers
        is_half = field.is_number and bool((numbers.dropna() * 2 % 1 == 0).all())
        if is_half and 1 < field.num_distinct <= _FEW and numbers.max() <= 100:
            return Guess(
                field.name, f"{field.num_distinct} numbers, {number(numbers.min())} to {number(numbers.max())}"
            )
    return None


def guess_action_column(fields: Sequence[Field]) -> Guess | None:
    """The column that names what was done: a usual name, and few words in it."""
    for field in fields:
        is_words = field.share_of_numbers == 0 or is_named(field.name, ["behavior_type"])
        if is_named(field.name, _ACTION_COLUMNS) and is_words and 1 < field.num_distinct <= _MAX_ACTIONS:
            return Guess(field.name, shares(field))
    return None


def guess_position(fields: Sequence[Field]) -> Guess | None:
    """The column of the place in a list: whole numbers from 1 (or 0) without many gaps, and a name that says so."""
    for field in fields:
        numbers = field.numbers
        if is_named(field.name, ("position", "pos", "rank", "slot", "display_position")) and field.is_whole_number:
            first, last = numbers.min(), numbers.max()
            if first >= 1 and last < 2 * field.num_distinct + 10:
                return Guess(field.name, f"{number(first)} to {number(last)}")
    return None


def is_rating(name: str) -> bool:
    """Whether a column of values has, by its name, ratings rather than counts."""
    return is_named(name, _RATING_NAMES)


@dataclass(frozen=True)
class Threshold:
    """A bound of the value from which on a row may be called a positive."""

    at_least: float
    share: float
    """Of the rows."""


def thresholds(field: Field) -> list[Threshold]:
    """Bounds that part the rows, with the share of positives: each value of few, else 1 and the quartiles."""
    numbers = field.numbers.dropna()
    if numbers.empty or numbers.nunique() < 2:
        return []
    bounds = sorted(numbers.unique()) if numbers.nunique() <= _FEW else [1.0, *numbers.quantile([0.25, 0.5, 0.75])]
    parting = [bound for bound in dict.fromkeys(map(float, bounds)) if 0 < (numbers >= bound).mean() < 1]
    return [Threshold(bound, float((numbers >= bound).mean())) for bound in parting]


def guess_threshold(field: Field) -> Threshold | None:
    """The bound of a label: three quarters of the best rating, or 1 of a count that may be 0 or negative.

    None for counts that are never below 1: each row is a positive.
    """
    candidates = thresholds(field)
    if not candidates:
        return None
    if is_rating(field.name) or (field.num_distinct <= _FEW and field.numbers.max() <= 10):
        bound = 0.75 * float(field.numbers.max())
        return next((one for one in candidates if one.at_least >= bound), candidates[-1])
    return next((one for one in candidates if one.at_least == 1), None) if field.numbers.min() < 1 else None


@dataclass(frozen=True)
class TypeGuess:
    """The type of a column of the site's own; None to leave it out."""

    code: str | None
    """As it stands in the declaration, `Number(transform="log1p")`."""
    reason: str


def guess_type(field: Field, num_rows: int) -> TypeGuess:
    """What features a column may become.

    Args:
        field: the column.
        num_rows: of the whole table, of which the field may have a sample.
    """
    if field.num_distinct == 0:
        return TypeGuess(None, "no values: skipped")
    if field.num_distinct == 1 and not field.num_missing:
        return TypeGuess(None, f"constant: skipped ({_short(field.counts.index[0])!r} in all rows)")
    if field.is_damaged:
        return TypeGuess(None, f"rounded by a spreadsheet ({field.counts.index[0]}): skipped, different ids are equal")
    missing = f", {field.share_missing:.1%} missing" if field.num_missing else ""
    separator = guess_separator(field)
    if separator is not None:
        return _tags(field, separator, missing)
    if is_row_number(field):
        return TypeGuess(None, "numbers of the rows: skipped")
    if is_of_one_occasion(field.name) and field.num_distinct > _FEW:
        return TypeGuess("Text()", f"{field.num_distinct:,} ids of one occasion each: no later row has them again")
    if field.is_number:
        return _number_or_code(field, missing)
    if field.time_format is not None:
        return TypeGuess(
            None, f"dates such as {_short(field.counts.index[0])!r}: skipped, no feature reads them{missing}"
        )
    if is_text(field):
        sample = _short(field.counts.index[0])
        return TypeGuess(
            "Text()", f"{field.num_distinct:,} texts in {field.num_rows:,} rows, such as {sample!r}{missing}"
        )
    reason = f"{field.num_distinct:,} values{missing}"
    return TypeGuess(category(field.num_distinct), reason)


def is_row_number(field: Field) -> bool:
    """Whether a column counts the rows, as the index that pandas writes."""
    if not (field.is_unique and field.is_whole_number and field.num_rows > _FEW):
        return False
    return bool((field.numbers.diff().dropna() == 1).all()) and float(field.numbers.iloc[0]) in (0.0, 1.0)


def depends_on(field: Field, key: Field) -> bool:
    """Whether a column says nothing that the key does not: nearly all rows of a key have the same value."""
    rows = pd.DataFrame({"key": key.texts, "value": field.texts}).dropna()
    sizes = rows.groupby("key")["value"].agg(["size", "nunique"])
    several = sizes[sizes["size"] > 1]
    return len(several) >= _MIN_KEYS and float((several["nunique"] == 1).mean()) >= _DEPENDENT


def guess_separator(field: Field) -> str | None:
    """What stands between several texts in a cell: the parts come again and again, more than the cells do.

    A sentence with commas has none, and neither have numbers with decimals: their parts are many.
    """
    texts = [str(text) for text in field.counts.index[:5000]]
    if len(texts) < 3 or field.is_number:
        return None
    for separator in _TAG_SEPARATORS:
        if separator == " " and not field.is_list:
            continue
        split = [[part.strip() for part in text.split(separator)] for text in texts]
        parts = {part for row in split for part in row if part}
        num_several = sum(len(row) > 1 for row in split)
        is_short = max(map(len, parts), default=0) <= 40 and sum(map(len, split)) / len(split) <= 10
        # As many tags as texts would be words of sentences, or places as `nyc, usa`.
        if num_several >= 0.2 * len(texts) and is_short and len(parts) <= 0.5 * len(texts) + 5:
            return separator
    return None


def is_text(field: Field) -> bool:
    """Whether a column has a text of its own in nearly each row, or long ones: nothing comes again to learn from."""
    texts = [str(text) for text in field.counts.index[:1000]]
    if not texts:
        return False
    mean_chars = sum(map(len, texts)) / len(texts)
    mean_words = sum(len(text.split()) for text in texts) / len(texts)
    num_filled = field.num_rows - field.num_missing
    is_single = num_filled >= 50 and field.num_distinct > 0.9 * num_filled
    return is_single or (field.num_distinct > 100 and mean_chars > _LONG_CHARS and mean_words > _LONG_WORDS)


def category(num_distinct: int) -> str:
    """A Category with some ten times as many buckets as there are values, a power of two."""
    return "Category()" if (buckets := buckets_for(num_distinct)) == 1024 else f"Category(buckets={buckets})"


def buckets_for(num_distinct: int) -> int:
    """Some ten times as many buckets as there are values, so that most have one of their own: a power of two."""
    return min(max(2 ** round(math.log2(_PER_VALUE * max(num_distinct, 1))), 16), MAX_BUCKETS)


def _tags(field: Field, separator: str, missing: str) -> TypeGuess:
    rows = field.texts.dropna().str.split(separator, regex=False)
    sizes = rows.str.len()
    num_tags = rows.explode().str.strip().nunique()
    slots = min(max(int(sizes.quantile(0.9)), 1), 20)
    options = [f'separator="{separator}"'] if separator != "|" else []
    options += [f"slots={slots}"] if slots != 3 else []
    options += [f"buckets={buckets}"] if (buckets := buckets_for(num_tags)) != 1024 else []
    reason = f"{num_tags:,} tags; {sizes.mean():.1f} in a cell, at most {sizes.max()}{missing}"
    return TypeGuess(f"Tags({', '.join(options)})", reason)


def _number_or_code(field: Field, missing: str) -> TypeGuess:
    numbers = field.numbers.dropna()
    reason = f"{number(numbers.min())} to {number(numbers.max())}{missing}"
    is_amount = any(word in bare_name(field.name) for word in _COUNT_WORDS)
    if field.is_whole_number and not is_amount:
        if field.num_distinct <= _FEW:
            return TypeGuess(category(field.num_distinct), f"{field.num_distinct} whole numbers, {reason}")
        if is_code(field):
            return TypeGuess(category(field.num_distinct), f"{field.num_distinct:,} ids, {reason}")
    if text := _first_no_number(field):
        reason += f"; {1 - field.share_of_numbers:.2%} no numbers, as {_short(text)!r}"
    transform = guess_transform(numbers)
    return TypeGuess(f'Number(transform="{transform}")' if transform else "Number()", reason)


def is_code(field: Field) -> bool:
    """Whether whole numbers are ids: a name that ends so, or leading zeros."""
    name = field.name.casefold()
    has_zeros = any(
        len(text) > 1 and text.startswith("0") and text.isdigit() for text in map(str, field.counts.index[:1000])
    )
    return has_zeros or name.endswith(("id", "code", "zip", "_no", "nr", "key", "segment", "brand", "customer"))


def guess_transform(numbers: pd.Series) -> str | None:
    """`log1p` for numbers over several orders of magnitude, `signed_log` where some are negative; None for others."""
    sizes = numbers.abs()
    middle = float(sizes[sizes > 0].median()) if (sizes > 0).any() else 0.0
    if middle == 0 or float(sizes.max()) < _LARGE_SPREAD * middle:
        return None
    return "signed_log" if float(numbers.min()) < 0 else "log1p"


def _first_no_number(field: Field) -> str | None:
    wrong = field.texts[field.numbers.isna() & field.texts.notna()]
    return None if wrong.empty else str(wrong.iloc[0])


ROLE_NAMES: Mapping[str, Mapping[str, Sequence[str]]] = {
    "items": {
        "title": ("title", "name", "movie_title", "book_title", "product_name", "item_name", "headline", "description"),
        "category": (
            *("category", "categories", "genres", "genre", "class", "main_category", "category_name", "topic"),
            *("product_type", "department", "section"),
        ),
        "author": (
            "author",
            "book_author",
            "authors",
            "director",
            "artist",
            "developer",
            "creator",
            "publisher",
            "brand",
        ),
        "published_at": ("published_at", "release_date", "published", "publish_date", "created_at", "date_added"),
        "release_year": ("release_year", "year", "year_of_publication", "publication_year"),
    },
    "users": {
        "gender": ("gender", "sex"),
        "age": ("age",),
        "city": ("city", "location", "town"),
        "registered_at": (
            "registered_at",
            "signup_date",
            "registered",
            "created_at",
            "joined",
            "join_date",
            "registration_date",
        ),
    },
}
"""Roles of the columns of items and users -> what they are usually called, the likeliest first."""


def guess_role(role: str, fields: Sequence[Field]) -> Guess | None:
    """The column of a role of items or users: one of the usual names, whose values can be such.

    Args:
        role: as `title` or `age`.
        fields: columns that have no role yet.
    """
    names = next(roles[role] for roles in ROLE_NAMES.values() if role in roles)
    for name in names:
        for field in fields:
            if is_named(field.name, [name]) and (reason := _fits(role, field)) is not None:
                return Guess(field.name, reason)
    return None


def guess_role_by_values(role: str, fields: Sequence[Field]) -> Guess | None:
    """As `guess_role`, for a file without names: titles are texts of their own, topics come again, genders are few."""
    for field in fields:
        texts = [str(text) for text in field.counts.index[:1000]]
        mean_words = sum(len(text.split()) for text in texts) / max(len(texts), 1)
        is_single = field.num_distinct > 0.5 * field.num_rows
        fits = {
            "title": not field.is_number and is_single and mean_words > 1.5,
            "category": not field.is_number and (guess_separator(field) is not None or 1 < field.num_distinct <= 100),
            "gender": 1 < field.num_distinct <= 5 and {text.casefold() for text in texts} <= _GENDERS,
        }
        if fits.get(role, False):
            return Guess(field.name, f"by its values: {shares(field, 3)}")
    return None


def _fits(role: str, field: Field) -> str | None:
    """Figures of a column that can have a role; None where its values can't be such."""
    if field.num_distinct < 1:
        return None
    reason = f"{field.num_distinct:,} values"
    if role in ("published_at", "registered_at"):
        return reason if isinstance(field.time_format, TimeFormat) else None
    if role == "release_year":
        middle = float(field.numbers.median()) if field.share_of_numbers > 0.5 else 0.0
        return f"{field.num_distinct:,} years around {middle:.0f}" if 1000 <= middle <= 2100 else None
    if role == "age":
        middle = float(field.numbers.median()) if field.share_of_numbers > 0.5 else -1.0
        return f"{middle:.0f} in the middle" if 0 < middle < 120 and field.num_distinct > 2 else None
    if role == "gender":
        return shares(field) if field.num_distinct <= 10 else None
    return None if field.num_distinct == 1 and not field.num_missing and field.num_rows > 1 else reason


def shares(field: Field, limit: int = 6) -> str:
    """The commonest values with their shares: `view 92.1%, cart 5.0% …`."""
    parts = [f"{_short(str(value))} {count / field.num_rows:.1%}" for value, count in field.counts.head(limit).items()]
    return ", ".join(parts) + (" …" if field.num_distinct > limit else "")


def number(value: float) -> str:
    """A number as people write it."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"


def _short(text: str, limit: int = 40) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
