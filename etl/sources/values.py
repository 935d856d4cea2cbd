"""Texts of files -> numbers, ids and lists."""

import re
from collections.abc import Sequence

from pyspark.sql import Column
from pyspark.sql import functions as F

from etl.sources.lines import NUMBER, WHITESPACE

# What a spreadsheet makes of a long number: the digits are gone, and different ids are equal.
DAMAGED_ID = r"^\d([.,]\d+)?[eE]\+\d+$"
_JSON_STRINGS = "array<string>"


def trimmed(text: Column) -> Column:
    """The text without blanks around it; null where nothing is left."""
    return F.nullif(F.btrim(text, F.lit(WHITESPACE)), F.lit(""))


def to_number(text: Column, decimal: str = ".") -> Column:
    """The text as a finite number, null where it is none.

    Args:
        text: as the file has it.
        decimal: the decimal sign; with a comma, dots in between are thousands.
    """
    number = F.btrim(text, F.lit(WHITESPACE))
    if decimal == ",":
        number = F.replace(F.regexp_replace(number, r"\.(?=\d{3}(\D|$))", ""), F.lit(","), F.lit("."))
    double = F.when(F.rlike(number, F.lit(NUMBER)), number.cast("double"))
    return F.when(F.abs(double) < float("inf"), double)


def is_damaged_id(text: Column) -> Column:
    """Whether a spreadsheet has turned an id into a rounded number, as `2.10381E+18`."""
    return F.coalesce(F.rlike(text, F.lit(DAMAGED_ID)), F.lit(False))


def has_damaged_ids(samples: Sequence[str]) -> bool:
    """Whether most texts of a column are ids that a spreadsheet has rounded."""
    texts = [text for text in samples if text.strip()]
    return sum(bool(re.search(DAMAGED_ID, text.strip())) for text in texts) > len(texts) / 2


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
