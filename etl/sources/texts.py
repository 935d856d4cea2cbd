"""What a cell's text means, in Python and without Spark: `values` has the same rules for columns of Spark."""

import math
import re
import string

# Trimmed from cells: Spark's `trim` knows blanks only.
WHITESPACE = string.whitespace + "\u00a0\u2028\u2029\u3000\ufeff"
# Beside Java's: +4, .5 and 5. Of ASCII's digits, which `\d` is for Java, and not for Python.
WRITTEN_NUMBER = r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_WRITTEN_NUMBER = re.compile(WRITTEN_NUMBER.strip("^$"))
_THOUSANDS = re.compile(r"\.(?=[0-9]{3}([^0-9]|$))")


def number_of(text: str, decimal: str = ".") -> float | None:
    """The text as a finite number, None where it is none.

    Args:
        text: as the file has it.
        decimal: the decimal sign; with a comma, dots in between are thousands.
    """
    text = text.strip(WHITESPACE)
    if decimal == ",":
        text = _THOUSANDS.sub("", text).replace(",", ".")
    # Python's float would read NaN, infinities and 1_000, too.
    number = float(text) if _WRITTEN_NUMBER.fullmatch(text) else math.inf
    return number if math.isfinite(number) else None
