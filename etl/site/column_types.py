"""What features an own column may become: its type by its values, or why it is left out."""

import math
import re
from dataclasses import dataclass

import pandas as pd

from conf.site.columns import MAX_BUCKETS, MAX_SIZE, MAX_SLOTS
from etl.site.fields import Field, number, short
from etl.site.words import CODE_WORDS, COUNT_WORDS, is_of_one_occasion, words_of
from etl.sources.pandas_values import to_numbers
from etl.sources.texts import LIST, list_parts, tokens_of, vector_of
from etl.sources.times import TimeFormat

_MANY = 1000  # rows
_FEW = 20  # distinct whole numbers are names of something rather than amounts
_TAG_SEPARATORS = ("|", ";", "^", ",", " ")
_LONG_CHARS, _LONG_WORDS = 40, 3
_LARGE_SPREAD = 100.0
_PER_VALUE = 10  # buckets
_SMALLEST_VECTOR = 4  # fewer numbers are places, ranges or dates
_RECURRING = 3  # texts with a word
_MIN_KEYS, _DEPENDENT = 10, 0.95


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
        return TypeGuess(None, f"constant: skipped ({short(field.counts.index[0])!r} in all rows)")
    if field.is_damaged:
        return TypeGuess(None, f"rounded by a spreadsheet ({field.counts.index[0]}): skipped, different ids are equal")
    missing = f", {field.share_missing:.1%} missing" if field.num_missing else ""
    if (size := guess_size(field)) is not None:
        return TypeGuess(f"Vector({size})", f"{size} numbers in a cell{missing}")
    if field.is_object:
        path = f"get_json_object(`{field.name}`, '$.…')"
        return TypeGuess(None, f"objects such as {short(field.counts.index[0])}: skipped; a Query reads a part, {path}")
    separator = guess_separator(field)
    if separator is not None:
        return _tags(field, separator, missing)
    if is_row_number(field):
        return TypeGuess(None, "numbers of the rows: skipped")
    if field.is_unique and field.is_whole_number and field.num_rows >= _MANY and not is_amount(field):
        return TypeGuess("Text()", f"a number of its own in each of {field.num_rows:,} rows: an id of the row")
    if is_of_one_occasion(field.name) and field.num_distinct > _FEW:
        return TypeGuess("Text()", f"{field.num_distinct:,} ids of one occasion each: no later row has them again")
    is_date = isinstance(field.time_format, TimeFormat) and field.time_format.pattern.startswith("yyyyMMdd")
    if (field.is_number and not is_date) or has_words_for_none(field):
        return _number_or_code(field, num_rows, missing)
    if field.time_format is not None:
        return TypeGuess(
            None, f"dates such as {short(field.counts.index[0])!r}: skipped, no feature reads them{missing}"
        )
    if is_text(field) and (tokens := tokens_that_recur(field)) is not None:
        return _tokens(tokens, missing)
    if is_text(field):
        sample = short(field.counts.index[0])
        return TypeGuess(
            "Text()", f"{field.num_distinct:,} texts in {field.num_rows:,} rows, such as {sample!r}{missing}"
        )
    return _category(field, num_rows, "values", missing)


def has_words_for_none(field: Field) -> bool:
    """Whether most values are numbers, and the others one or two words for none, as `unknown`."""
    words = field.texts[field.numbers.isna()].dropna().unique()
    return field.share_of_numbers >= 0.5 and field.numbers.nunique() > _FEW and 0 < len(words) <= 2


def is_row_number(field: Field) -> bool:
    """Whether a column counts the rows, as the index that pandas writes."""
    if not (field.is_unique and field.is_whole_number and field.num_rows > _FEW):
        return False
    # A sample has gaps.
    is_next = field.numbers.diff().dropna() == 1
    return bool(is_next.mean() > 0.99) and float(field.numbers.min()) in (0.0, 1.0)


def depends_on(field: Field, key: Field) -> bool:
    """Whether a column says nothing that the key does not: nearly all rows of a key have the same value."""
    rows = pd.DataFrame({"key": key.texts, "value": field.texts}).dropna()
    sizes = rows.groupby("key")["value"].agg(["size", "nunique"])
    several = sizes[sizes["size"] > 1]
    return len(several) >= _MIN_KEYS and float((several["nunique"] == 1).mean()) >= _DEPENDENT


def guess_separator(field: Field) -> str | None:
    """What stands between several texts in a cell: the parts come again and again, more than the cells do.

    A sentence with commas has none, and neither have numbers with decimals: their parts are many. Lists in brackets are
    read whatever the separator, so that they have the default.
    """
    texts = [str(text) for text in field.counts.index[:5000]]
    if len(texts) < 3 or field.is_number or to_numbers(field.counts.index.to_series(), ",").notna().all():
        return None
    if all(re.match(LIST, text) for text in texts):
        return _TAG_SEPARATORS[0]
    for separator in _TAG_SEPARATORS:
        if separator == " " and not field.is_list:
            continue
        split = [[part.strip() for part in text.split(separator)] for text in texts]
        parts = {part for row in split for part in row if part}
        num_several = sum(len(row) > 1 for row in split)
        is_short = max(map(len, parts), default=0) <= 40 and sum(map(len, split)) / len(split) <= 10
        # As many tags as texts would be words of sentences, or places as `nyc, usa`.
        if num_several >= 0.2 * len(texts) and is_short and len(parts) <= 0.5 * len(texts) + 2:
            return separator
    return None


def guess_size(field: Field) -> int | None:
    """Size of the vectors in the cells, such as embeddings learned elsewhere; None where they have none.

    Whole numbers alone are ids or codes, and of few vectors the same come again.
    """
    texts = [str(text) for text in field.counts.index[:1000]]
    if len(texts) < 3 or not any("." in text for text in texts):
        return None
    vectors = [vector_of(text) for text in texts]
    sizes = {0 if vector is None else len(vector) for vector in vectors}
    size = max(sizes)
    return size if len(sizes) == 1 and _SMALLEST_VECTOR <= size <= MAX_SIZE else None


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


def tokens_that_recur(field: Field) -> pd.Series | None:
    """Words of each of a column's texts, where most texts have one that some other texts have, and some have not."""
    texts = [str(text) for text in field.counts.index[:5000]]
    if any("://" in text for text in texts):
        return None
    tokens = pd.Series(texts).map(tokens_of)
    counts = tokens.explode().value_counts()
    # A word of most texts tells none apart, and a word of one is nothing to learn from.
    recurring = set(counts.index[(counts >= _RECURRING) & (counts <= len(texts) / 2)])
    has_one = tokens.map(lambda words: not recurring.isdisjoint(words))
    return tokens if tokens.map(len).mean() >= 2 and has_one.mean() >= 0.5 else None


def _tokens(tokens: pd.Series, missing: str) -> TypeGuess:
    num_tokens, vocabulary = tokens.map(len), tokens.explode().nunique()
    slots = min(max(2 * int(num_tokens.quantile(0.9)), 2), MAX_SLOTS)
    buckets = max(buckets_for(math.ceil(vocabulary / slots)), 64)
    options = ", ".join(
        [*([f"slots={slots}"] if slots != 16 else []), *([f"buckets={buckets}"] if buckets != 4096 else [])]
    )
    reason = f"{vocabulary:,} words; {num_tokens.mean():.1f} in a text, at most {num_tokens.max()}{missing}"
    return TypeGuess(f"Tokens({options})", reason)


def category(num_distinct: int) -> str:
    """A Category with some ten times as many buckets as there are values, a power of two."""
    buckets = buckets_for(num_distinct)
    # 1024 is the default of Category: a declaration says what differs.
    return "Category()" if buckets == 1024 else f"Category(buckets={buckets})"


def buckets_for(num_distinct: int) -> int:
    """Some ten times as many buckets as there are values, so that most have one of their own: a power of two."""
    power = round(math.log2(_PER_VALUE * max(num_distinct, 1)))
    return min(1 << max(power, 4), MAX_BUCKETS)


def num_distinct_of_all(field: Field, num_rows: int) -> int:
    """About how many distinct values all rows have, by those that the sample has once and twice (Chao 1984)."""
    num_filled = field.num_rows - field.num_missing
    if num_filled >= num_rows * (1 - field.share_missing) or field.num_distinct < 2:
        return field.num_distinct
    once, twice = int((field.counts == 1).sum()), int((field.counts == 2).sum())
    unseen = once**2 / (2 * max(twice, 1))
    return min(field.num_distinct + round(unseen), num_rows)


def _category(field: Field, num_rows: int, noun: str, rest: str) -> TypeGuess:
    about = num_distinct_of_all(field, num_rows)
    more = f" in the sample, some {about:,} in all" if about > 1.1 * field.num_distinct else ""
    return TypeGuess(category(about), f"{field.num_distinct:,} {noun}{more}{rest}")


def _tags(field: Field, separator: str, missing: str) -> TypeGuess:
    rows = field.texts.dropna().map(lambda text: list_parts(text, separator))
    sizes = rows.str.len()
    num_tags = rows.explode().nunique()
    slots = min(max(int(sizes.quantile(0.9)), 1), 20)
    options = [f'separator="{separator}"'] if separator != "|" else []
    options += [f"slots={slots}"] if slots != 3 else []
    options += [f"buckets={buckets}"] if (buckets := buckets_for(num_tags)) != 1024 else []
    reason = f"{num_tags:,} tags; {sizes.mean():.1f} in a cell, at most {sizes.max()}{missing}"
    return TypeGuess(f"Tags({', '.join(options)})", reason)


def _number_or_code(field: Field, num_rows: int, missing: str) -> TypeGuess:
    numbers = field.numbers.dropna()
    reason = f"{number(numbers.min())} to {number(numbers.max())}{missing}"
    if field.is_whole_number and not is_amount(field):
        if field.num_distinct <= _FEW:
            return _category(field, num_rows, "whole numbers", f", {reason}")
        if is_code(field):
            return _category(field, num_rows, "ids", f", {reason}")
    if text := _first_no_number(field):
        reason += f"; {1 - field.share_of_numbers:.2%} no numbers, as {short(text)!r}"
    transform = guess_transform(numbers)
    return TypeGuess(f'Number(transform="{transform}")' if transform else "Number()", reason)


def is_amount(field: Field) -> bool:
    """Whether a column has, by a word of its name, amounts or counts."""
    return bool(COUNT_WORDS & set(words_of(field.name)))


def is_code(field: Field) -> bool:
    """Whether whole numbers are names of something: by a word of the column's name, or by leading zeros."""
    texts = [str(text) for text in field.counts.index[:1000]]
    has_zeros = any(len(text) > 1 and text.startswith("0") and text.isdigit() for text in texts)
    return has_zeros or bool(CODE_WORDS & set(words_of(field.name)))


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
