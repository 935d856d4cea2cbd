"""Tokens of a text in any language, without a dictionary.

Han characters have no spaces between words: each is a token, and so is each pair of neighbours. Other words are tokens
whole and by three letters at a time: `addChild` and `removeChild`, or two inflections, have something in common.
"""

import re
import unicodedata

_HAN = "\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_HAN}]+|[^\W{_HAN}]+")


def tokens(text: str) -> list[str]:
    """Tokens in the order of the text; case and width of letters don't count."""
    result: list[str] = []
    for word in _WORD.findall(unicodedata.normalize("NFKC", text).lower()):
        if "\u3400" <= word[0] <= "\u9fff" or "\uf900" <= word[0] <= "\ufaff":
            result += [*word, *(word[start : start + 2] for start in range(len(word) - 1))]
        else:
            # Marked, so that a part is never mistaken for a word.
            result += [word, *("#" + word[start : start + 3] for start in range(len(word) - 2))]
    return result
