"""What a cell's text means, in Python and without Spark: `values` has the same rules for columns of Spark."""

import math
import re
import string

# Trimmed from cells: Spark's `trim` knows blanks only.
WHITESPACE = string.whitespace + "\u00a0\u2028\u2029\u3000\ufeff"
# Beside Java's: +4, .5 and 5. Of ASCII's digits, which `\d` is for Java, and not for Python.
WRITTEN_NUMBER = r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_WRITTEN_NUMBER = re.compile(WRITTEN_NUMBER.strip("^$"))
# A list as JSON and Python write it; its parts, of which those in quotes may have commas; and what is in the quotes.
LIST = r"(?s)^\[.*\]$"
LIST_PART = r"""[ \t\n]*("[^"]*"|'[^']*')[ \t\n]*(?=,|$)|[^,]+"""
QUOTED = r"""(?s)^(["'])(.*)\1$"""
# Brackets around the numbers of a vector, and what is between them.
VECTOR_ENDS, VECTOR_GAPS = r"^[\[({ \t\n\r]+|[\])} \t\n\r]+$", r"[ \t\n\r,;|]+"
# Han and Japanese signs, which no blanks part into words, and the other letters and digits, for Java and for Python.
HAN = r"\u3005\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD_OF_PYTHON, _WORD_OF_JAVA = rf"[^\W_{HAN}]", rf"[\p{{L}}\p{{N}}&&[^{HAN}]]"


def _token(word: str) -> str:
    """Group 1 is a word, or two signs that stand together, or one that stands alone; the next two share a sign."""
    return rf"(?=([{HAN}]{{2}}|(?<![{HAN}])[{HAN}]|{word}+))(?:[{HAN}]|{word}+)"


TOKEN = _token(_WORD_OF_JAVA)
_TOKEN = re.compile(_token(_WORD_OF_PYTHON))
# libfm writes -1 for a row that is no click.
YES, NO = ("1", "1.0", "true", "t", "yes", "y"), ("0", "0.0", "-1", "-1.0", "false", "f", "no", "n")
THOUSANDS = r"\.(?=[0-9]{3}([^0-9]|$))"
"""The dots of a number whose decimals follow a comma."""


def number_of(text: str, decimal: str = ".") -> float | None:
    """The text as a finite number, None where it is none.

    Args:
        text: as the file has it.
        decimal: the decimal sign; with a comma, dots in between are thousands.
    """
    text = text.strip(WHITESPACE)
    if decimal == ",":
        text = re.sub(THOUSANDS, "", text).replace(",", ".")
    # Python's float would read NaN, infinities and 1_000, too.
    number = float(text) if _WRITTEN_NUMBER.fullmatch(text) else math.inf
    return number if math.isfinite(number) else None


def list_parts(text: str, separator: str) -> list[str]:
    """The texts in a cell, each without quotes and blanks around it; empty ones are left out.

    Args:
        text: without blanks around it; a list in brackets (`["a", "b"]`), or parts between separators.
        separator: of what is not in brackets.
    """
    if re.match(LIST, text):
        parts = [re.sub(QUOTED, r"\2", part[0].strip(WHITESPACE)) for part in re.finditer(LIST_PART, text[1:-1])]
    else:
        parts = text.split(separator)
    return [part for part in (part.strip(WHITESPACE) for part in parts) if part]


def tokens_of(text: str) -> list[str]:
    """The words of a text in small letters, each once; of Han and Japanese signs each two that stand together."""
    return list(dict.fromkeys(match[1] for match in _TOKEN.finditer(text.lower())))


def vector_of(text: str) -> list[float] | None:
    """The numbers in a cell, None where there is none or anything else."""
    numbers = [number_of(part) for part in re.split(VECTOR_GAPS, re.sub(VECTOR_ENDS, "", text))]
    return None if None in numbers else [number for number in numbers if number is not None]


def yes_no_of(text: str | None, at_least: float | None = None, decimal: str = ".") -> int | None:
    """1 or 0 of a text such as yes, true or -1; None for what is neither.

    Args:
        text: as the file has it; an empty one is 0, for many logs have a time of the click, or nothing.
        at_least: smallest number that is 1, where the texts are numbers.
        decimal: their decimal sign.
    """
    word = (text or "").strip(WHITESPACE).lower()
    if not word:
        return 0
    if at_least is None:
        return 1 if word in YES else 0 if word in NO else None
    number = number_of(word, decimal)
    return None if number is None else int(number >= at_least)
