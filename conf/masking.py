"""What is secret in settings and in lines of text, and how it is masked: the one place that decides.

A value is secret by its field (SecretStr), by its name (`spark.hadoop.fs.s3a.secret.key`), or as the password in a URL
(`jdbc:…?password=…`, `https://user:…@host`). `remember_secrets` keeps this process's, for lines that have them bare.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from typing import Any
from urllib.parse import quote, unquote, unquote_plus

MASK = "**********"  # as pydantic prints a SecretStr

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_SECRET_WORDS = ("password", "passwd", "passphrase", "pwd", "secret", "token", "credential", "credentials", "sas")
# Of names without their separators: `fs.s3a.access.key` and `accessKey`. A `key` alone names a column.
_SECRET_PARTS = re.compile(
    r"passw|passphrase|secret|credential|apikey|token$|pwd$"
    r"|(?:access|account|private|shared|signing|session|encryption|master)key"
)
# Where a secret is, or what reads it: needed on a cluster, and no secret itself.
_REFERENCES = ("file", "path", "provider", "providers", "ref", "class", "type", "location", "enabled", "tokens", "bits")
_REFERENCE_PARTS = re.compile(r"secretkeyref|keyprovider|spark\.kubernetes\.(?:driver|executor)\.secrets\.")
_SQL = ("where",)  # settings in which `token = 5` compares columns
_MIN_REMEMBERED = 4  # characters: shorter ones stand in any line by chance

_secrets: set[str] = set()


def is_secret_name(name: str) -> bool:
    """Whether a setting, an option or a parameter of this name holds a secret; misspelt ones count, too."""
    words = [word.lower() for word in _WORD.findall(name)]
    compact = "".join(words)
    if not words or words[-1] in _REFERENCES or _REFERENCE_PARTS.search(name.lower()):
        return False
    if _SECRET_PARTS.search(compact):
        return True
    return any(get_close_matches(word, _SECRET_WORDS, 1, 0.85) for word in words)


def _url_pattern(end: str) -> re.Pattern[str]:
    """Passwords in a URL that goes on up to one of the characters `end`: groups are what stands before, and they."""
    return re.compile(
        # //user:password@host. A password may hold @, and / too where what follows the colon is no port.
        rf"(?P<login>//[^{end}/?#:@\[]*:)(?P<password>[^{end}/?#]*|(?!\d+(?:[/?#;,{end}]|$))[^{end}]*)(?=@)"
        rf"|(?P<oracle>jdbc:oracle:\w+:[^{end}/@]+/)(?P<tiger>[^{end}@]+)(?=@)"
        # ?name=value, ;name=value, name=value; up to the next parameter, for a password may hold the separators.
        r"|(?P<name>[\w.\-]*\w)(?P<equals>[ \t]?=[ \t]?)"
        rf"""(?P<value>"[^"\n]*"|'[^'\n]*'|\{{[^}}]*\}}|(?:(?![&;,][\w.\-]+=)[^{end}])+)"""
    )


_IN_TEXT = _url_pattern(r"\s")
_IN_URL = _url_pattern(r"\n")  # a whole value: blanks belong to it
_IS_URL = re.compile(r"\s*(?:jdbc:|[a-z][a-z0-9+.\-]*://)", re.IGNORECASE)
_QUOTED = re.compile(r"""(?P<start>(?P<q>['"])(?P<name>[\w.\-]+)(?P=q): ?)(?P<value>"[^"]*"|'[^']*')""")
_BEARER = re.compile(r"(\b(?:Bearer|Basic) +)[\w.~+/=\-]{8,}")


def masked_text(text: str) -> str:
    """A line of a log, an error or a command with the secrets in it masked: this process's own, and those in URLs."""
    if _secrets:
        # The longest first: one may begin with another.
        own = "|".join(re.escape(secret) for secret in sorted(_secrets, key=len, reverse=True))
        text = re.sub(rf"(?<!\w)(?:{own})(?!\w)", MASK, text)
    return _masked_patterns(text)


def _masked_patterns(text: str) -> str:
    text = _QUOTED.sub(lambda match: f"{match['start']}{MASK}" if is_secret_name(match["name"]) else match[0], text)
    return _BEARER.sub(rf"\g<1>{MASK}", _IN_TEXT.sub(_masked_match, text))


def masked(value: Any, name: str = "", declared: Collection[str] = ()) -> Any:
    """A setting's value with what is secret masked.

    Args:
        value: as YAML has it; dicts and lists are gone through.
        name: the key that it stands under.
        declared: names of fields that are secret whatever they are called.
    """
    if isinstance(value, Mapping):
        return {key: masked(inner, str(key), declared) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(masked(inner, name, declared) for inner in value)
    if value is None or isinstance(value, bool):
        return value
    if name in declared or is_secret_name(name):
        return MASK
    if not isinstance(value, str) or name in _SQL:
        return value
    return _IN_URL.sub(_masked_match, value) if _IS_URL.match(value) else _masked_patterns(value)


def has_secret(value: Any, name: str = "", declared: Collection[str] = ()) -> bool:
    """Whether there is something secret in a setting's value; arguments as of `masked`."""
    return repr(masked(value, name, declared)) != repr(value)  # as text, because NaN is not equal to itself


def without_secrets(value: Any, name: str = "", declared: Collection[str] = ()) -> tuple[Any, list[str]]:
    """A setting's value without what is secret, for others to read, and the dotted names of what was left out.

    A URL with a password is left out whole. Arguments as of `masked`; a value that is left out itself is None.
    """
    if isinstance(value, Mapping):
        parts = {key: without_secrets(inner, str(key), declared) for key, inner in value.items()}
        names = [".".join(filter(None, (name, inner))) for _, omitted in parts.values() for inner in omitted]
        # Nothing in the place of a secret would hide the one that a reader has.
        is_empty = {key for key in parts if value[key] is None and not has_secret("?", str(key), declared)}
        return {key: part for key, (part, _) in parts.items() if part is not None or key in is_empty}, names
    if has_secret(value, name, declared):
        return None, [name]
    return value, []


def remember_secrets(value: Any, name: str = "", declared: Collection[str] = ()) -> None:
    """Let `masked_text` know the secrets in a setting's value; arguments as of `masked`."""
    for secret in _secrets_in(value, name, declared):
        if len(secret) >= _MIN_REMEMBERED:
            # As a URL writes it, and as a driver's message does.
            _secrets.update({secret, unquote_plus(secret), quote(secret, safe="")})


def public_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables for a program that writes them on command lines: without Millrace's settings and secrets of others."""
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith("MILLRACE__") and not has_secret(value, name) and masked_text(value) == value
    }


def split_password(url: str) -> tuple[str, dict[str, str]]:
    """A PostgreSQL URL without its login, and that as the driver's properties `user` and `password`.

    Else driver and Hive would print the password with the URL. URLs without one, and others', are returned as they are.
    """
    if not url.startswith("jdbc:postgresql:"):
        return url, {}
    login: dict[str, str] = {}
    for name in ("password", "user"):
        match = re.search(rf"(?<=[?&]){name}=((?:(?!&[\w.\-]+=).)*)&?", url)
        if match is None or (name == "user" and not login):
            continue
        login[name] = unquote_plus(match[1])  # as the driver does
        url = (url[: match.start()] + url[match.end() :]).rstrip("?&")
    if match := re.match(r"(jdbc:postgresql://)([^:/?#@]*):([^/?#]*)@", url):
        login = {"user": unquote(match[2]), "password": unquote(match[3])} | login
        url = match[1] + url[match.end() :]
    return url, login


def _masked_match(match: re.Match[str]) -> str:
    if match["login"] is not None:
        return match["login"] + MASK
    if match["oracle"] is not None:
        return match["oracle"] + MASK
    return f"{match['name']}{match['equals']}{MASK}" if is_secret_name(match["name"]) else match[0]


def _secrets_in(value: Any, name: str, declared: Collection[str]) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _secrets_in(inner, str(key), declared)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _secrets_in(inner, name, declared)
    elif name in declared or is_secret_name(name):
        yield from () if value is None or isinstance(value, bool) else (str(value),)
    elif isinstance(value, str):
        for match in _IN_URL.finditer(value):
            if match["name"] is None:  # a login before a host, which has no name
                yield match["password"] or match["tiger"] or ""
            elif is_secret_name(match["name"]):
                yield match["value"].strip("\"'{}")
