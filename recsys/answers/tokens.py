"""Tokens of a text in any language, without a dictionary.

Han and Japanese characters have no spaces between words: each is a token, and so is each pair of neighbours. Other
words are tokens whole and by three letters at a time: `addChild` and `removeChild`, or two inflections, have something
in common.
"""

import re
import unicodedata

from etl.sources.texts import HAN

_WORD = re.compile(rf"[{HAN}]+|[^\W_{HAN}]+")
_IS_HAN = re.compile(f"[{HAN}]")


def tokens(text: str) -> list[str]:
    """Tokens in the order of the text; case and width of letters don't count."""
    result: list[str] = []
    for word in _WORD.findall(unicodedata.normalize("NFKC", text).lower()):
        if _IS_HAN.match(word):
            result += [*word, *(word[start : start + 2] for start in range(len(word) - 1))]
        else:
            # Marked, so that a part is never mistaken for a word.
            result += [word, *("#" + word[start : start + 3] for start in range(len(word) - 2))]
    return result
