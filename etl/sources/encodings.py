"""Which encoding a text file has: by its byte order mark, else the strictest one that its bytes fit."""

import codecs
import re

import charset_normalizer

from conf import UsageError

_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
# First bytes of the characters that nearly all Chinese text consists of: level 1 of both standards, and punctuation.
_CHINESE = {
    "gb18030": re.compile(rb"[\xa1-\xd7][\xa1-\xfe]"),
    "big5": re.compile(rb"[\xa1-\xc6][\x40-\x7e\xa1-\xfe]"),
}
_NO_KOREAN = re.compile(rb"[\xc9-\xd7][\xa1-\xfe]")  # EUC-KR has its syllables before these
_PAIR = re.compile(rb"[\x81-\xfe][\x40-\xfe]")
_MOSTLY = 0.85  # of the pairs; texts in other encodings have below a half
_OTHERS = ("shift_jis", "euc_jp", "euc_kr", "cp1251", "koi8_r", "cp1253")
# Java's names of the encodings that it spells otherwise than Python does.
JAVA_CHARSETS = {
    "latin-1": "ISO-8859-1",
    "iso8859-1": "ISO-8859-1",
    "cp1252": "windows-1252",
    "cp1251": "windows-1251",
    "utf-16-le": "UTF-16LE",
    "utf-16-be": "UTF-16BE",
    "iso2022_jp": "ISO-2022-JP",
    "iso2022_kr": "ISO-2022-KR",
    "mac-roman": "x-MacRoman",
    "mac-cyrillic": "x-MacCyrillic",
    "mac-greek": "x-MacGreek",
    "mac-iceland": "x-MacIceland",
    "mac-turkish": "x-MacTurkish",
}
# Encodings of Python's that Java has none of, or in which a line end is no single character.
_UNREADABLE = re.compile(
    r"utf-7|utf-32.*|hz|ptcp154|kz1048|hp-roman8|mac-latin2|cp1125|euc_jis.*|shift_jisx?_?\d+|iso2022_jp_.*"
    r"|iso8859-1[0146]|punycode|idna|.*escape|undefined|mbcs|oem"
)
_HIGH_BYTES = re.compile(rb"[\x80-\xff]+")
# In European text a letter beyond ASCII stands alone or in pairs; Chinese, Japanese and Korean come in longer runs.
_EUROPEAN_RUN = 2.2


def detect_encoding(sample: bytes) -> str:
    """The encoding of a file, as Python names it, from parts of it.

    UTF-8 if the bytes are valid UTF-8 (other encodings' texts hardly ever are), else GB18030 or Big5 where most pairs
    are common characters of theirs, else what charset-normalizer says where bytes beyond ASCII come in runs, else
    latin-1, or windows-1252 where there are bytes that latin-1 has no letters for.

    Args:
        sample: the beginning, and lines from elsewhere; cut at line ends.
    """
    for mark, name in _MARKS.items():
        if sample.startswith(mark):
            return name
    if fits(sample, "utf-8"):
        return "utf-8"
    pairs = _PAIR.findall(sample)
    shares = {name: sum(map(bool, map(common.match, pairs))) / max(len(pairs), 1) for name, common in _CHINESE.items()}
    if not any(map(_NO_KOREAN.match, pairs)):
        del shares["gb18030"]
    name = max(shares, key=lambda name: shares[name])
    if shares[name] >= _MOSTLY and fits(sample, name):
        return name
    runs = _HIGH_BYTES.findall(sample)
    if sum(map(len, runs)) / len(runs) > _EUROPEAN_RUN:
        match = charset_normalizer.from_bytes(sample, cp_isolation=[*_OTHERS, *shares]).best()
        if match is not None:
            return str(match.encoding)
    return "cp1252" if re.search(rb"[\x80-\x9f]", sample) and fits(sample, "cp1252") else "latin-1"


def fits(sample: bytes, encoding: str) -> bool:
    """Whether every byte is valid in the encoding; a character that is cut off at the end is none's fault."""
    try:
        codecs.getincrementaldecoder(encoding)().decode(sample)
    except UnicodeDecodeError:
        return False
    return True


def normalized_encoding(name: str) -> str:
    """Python's name of an encoding that a user named.

    Raises:
        UsageError: there is none of that name, or Spark can't read it.
    """
    examples = "for example utf-8, latin-1, gb18030, big5 or cp1252"
    try:
        encoding = codecs.lookup(name).name
        "".encode(encoding)  # not base64 and the like, which are no encodings of text
    except (LookupError, UnicodeError):
        raise UsageError(f"unknown encoding '{name}'; {examples}") from None
    if _UNREADABLE.fullmatch(encoding):
        raise UsageError(f"Spark can't read '{name}': write the file in another encoding, {examples}")
    # A byte order mark is recognised without being said.
    return "utf-8" if encoding == "utf-8-sig" else encoding
