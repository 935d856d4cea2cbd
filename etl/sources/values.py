"""Texts of files -> numbers, ids and lists."""

import re
from collections.abc import Mapping, Sequence

from pyspark.sql import Column
from pyspark.sql import functions as F

from etl.sources.texts import (
    LIST,
    LIST_PART,
    NO,
    QUOTED,
    THOUSANDS,
    TOKEN,
    VECTOR_ENDS,
    VECTOR_GAPS,
    WHITESPACE,
    WRITTEN_NUMBER,
    YES,
)

# What a spreadsheet makes of a long number, and a cast of a double: the digits are gone, and different ids are equal.
DAMAGED_ID = r"^\d([.,]\d+)?[eE]\+\d+$|^-?\d\.\d+E\d+$"
# What programs write for an id that there is none of: as one user, all visitors without a name would be the same.
NO_ID = r"^(?i:null|\\N|n/?a|nan|none|<na>|#n/a|undefined)$"
_JSON_STRINGS = "array<string>"


def trimmed(text: Column) -> Column:
    """The text without blanks around it; null where nothing is left."""
    return F.nullif(F.btrim(text, F.lit(WHITESPACE)), F.lit(""))


def to_id(text: Column) -> Column:
    """The text without blanks around it; null where it is empty or stands for no value, as `NULL`, `\\N` or `nan`."""
    text = trimmed(text)
    return F.when(~F.rlike(text, F.lit(NO_ID)), text)


def text_map(texts: Mapping[str, Column]) -> Column:
    """A map of names to those of the texts that are not null."""
    pairs = [part for name, text in texts.items() for part in (F.lit(name), text)]
    return F.map_filter(F.create_map(*pairs), lambda _, value: value.isNotNull())


def to_number(text: Column, decimal: str = ".") -> Column:
    """The text as a finite number, null where it is none.

    Args:
        text: as the file has it.
        decimal: the decimal sign; with a comma, dots in between are thousands.
    """
    number = F.btrim(text, F.lit(WHITESPACE))
    if decimal == ",":
        number = F.replace(F.regexp_replace(number, THOUSANDS, ""), F.lit(","), F.lit("."))
    double = F.when(F.rlike(number, F.lit(WRITTEN_NUMBER)), number.cast("double"))
    return F.when(F.abs(double) < float("inf"), double)


def to_yes_no(text: Column, at_least: float | None = None, decimal: str = ".") -> Column:
    """1 or 0 of a text such as yes, true or -1, null for what is neither; as `etl.sources.texts.yes_no_of`."""
    word = F.lower(trimmed(text))
    if at_least is None:
        return F.when(word.isin(*YES), 1).when(word.isNull() | word.isin(*NO), 0)
    return F.when(word.isNull(), 0).otherwise((to_number(word, decimal) >= at_least).cast("int"))


def to_list_parts(text: Column, separator: str) -> Column:
    """The texts in a cell, as `etl.sources.texts.list_parts`; null where the text is."""
    inner = F.substring(text, F.lit(2), F.length(text) - 2)
    parts = F.regexp_extract_all(inner, F.lit(LIST_PART), F.lit(0))
    parts = F.transform(parts, lambda part: F.regexp_replace(trimmed(part), QUOTED, "$2"))
    parts = F.when(F.rlike(text, F.lit(LIST)), parts).otherwise(F.split(text, re.escape(separator)))
    return F.filter(F.transform(parts, trimmed), lambda part: part.isNotNull())


def to_tokens(text: Column) -> Column:
    """The words of a text, as `etl.sources.texts.tokens_of`; null where the text is."""
    return F.array_distinct(F.regexp_extract_all(F.lower(text), F.lit(TOKEN), F.lit(1)))


def to_vector(text: Column, size: int) -> Column:
    """`size` numbers in a cell, as `etl.sources.texts.vector_of`; null where they are fewer, more or anything else."""
    parts = F.split(F.regexp_replace(text, VECTOR_ENDS, ""), VECTOR_GAPS)
    numbers = F.transform(parts, lambda part: to_number(part))  # else the place is the decimal sign
    is_whole = (F.size(numbers) == size) & ~F.exists(numbers, lambda number: number.isNull())
    return F.when(is_whole, numbers)


def is_damaged_id(text: Column) -> Column:
    """Whether a spreadsheet has turned an id into a rounded number, as `2.10381E+18`."""
    # Most ids have no E, and need no regular expression.
    has_e = F.contains(text, F.lit("E")) | F.contains(text, F.lit("e"))
    return F.coalesce(has_e & F.rlike(text, F.lit(DAMAGED_ID)), F.lit(False))


def has_damaged_ids(samples: Sequence[str]) -> bool:
    """Whether most texts of a column are ids that a spreadsheet has rounded."""
    texts = [text for text in samples if text.strip()]
    return sum(bool(re.search(DAMAGED_ID, text.strip())) for text in texts) > len(texts) / 2


def are_decimals(samples: Sequence[str]) -> bool:
    """Whether all texts are whole numbers with a decimal point, as pandas writes ids beside missing ones: `123.0`."""
    return bool(samples) and all(re.fullmatch(r"\s*-?\d+\.0\s*", text) for text in samples)


def to_list(text: Column, separator: str = "|") -> Column:
    """The texts of a list: JSON or Python (`['a', 'b']`), else parts between separators; null where there is none.

    Args:
        text: as the file has it.
        separator: between the parts of a list that is not in brackets; empty for a text that is one value.
    """
    # Python's quotes: a text with an apostrophe is in double quotes already, as Python writes it.
    python = F.regexp_replace(text, r"(?<=[\[,\s])'([^'\"\\]*)'(?=\s*[,\]])", '"$1"')
    is_list = F.rlike(text, F.lit(r"(?s)^\s*\[.*\]\s*$"))
    parsed = F.coalesce(F.from_json(text, _JSON_STRINGS), F.from_json(python, _JSON_STRINGS))
    plain = F.split(text, re.escape(separator)) if separator else F.array(text)
    values = F.coalesce(F.when(is_list, parsed), plain)
    values = F.filter(F.transform(values, trimmed), lambda value: value.isNotNull())
    return F.when(F.size(values) > 0, values)
