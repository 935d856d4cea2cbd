"""Reading YAML of users: mistakes are named with their place, and a key that is given twice is one of them."""

import re
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import yaml

from conf.errors import UserError

IsSecret = Callable[[tuple[str, ...]], bool]
_SIGNS = re.compile("cannot start any token|mapping values are not allowed|undefined alias|constructor for the tag")
_CUT = re.compile(r"[ \t]*#|,\S")
_TEXT = "tag:yaml.org,2002:str"


class _SecretError(yaml.MarkedYAMLError):
    """A secret that YAML would change."""


class _RepeatedKeyError(yaml.constructor.ConstructorError):
    """A key that stands twice in a mapping."""


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML forbids a key twice in a mapping; PyYAML silently takes the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[Any, int] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in lines:
                raise _RepeatedKeyError(
                    None, None, f"'{key}' stands here a second time, first in line {lines[key]}", key_node.start_mark
                )
            lines[key if isinstance(key, Hashable) else id(key_node)] = key_node.start_mark.line + 1
        return super().construct_mapping(node, deep=deep)


def parse_yaml(text: str, where: str, is_secret: IsSecret = lambda path: False) -> Any:
    """Parse YAML.

    Args:
        text: the YAML; nothing of it but keys is in a message, because it may hold a secret.
        where: names the file, variable or option in messages.
        is_secret: whether the value under a path of keys is a secret: it becomes the text that stands there, also where
            that reads as a number, a date, yes or null.

    Raises:
        UserError: it is not valid YAML, gives a key twice, or has a secret without quotes that YAML would change; the
            message says where and in which line.
    """
    loader = _UniqueKeyLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        for key, value in _secret_nodes(node, (), is_secret, set()):
            _take_as_text(key, value, text)
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{where}, line {mark.line + 1}, column {mark.column + 1}" if mark else where
        raise UserError(f"{place}: not valid YAML: {_problem(error)}") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2026-13-01
        problem = re.sub(r": ['\"].*", "", str(error).splitlines()[0])  # int() and float() quote what they were given
        raise UserError(f"{where}: not valid YAML: {problem}") from None
    finally:
        loader.dispose()


def _problem(error: yaml.MarkedYAMLError) -> str:
    problem = str(error.problem or error.context)
    if isinstance(error, (_SecretError, _RepeatedKeyError)):
        return problem
    # An alias, an anchor or a tag may be the beginning of a password; `<stream end>` is none.
    problem = re.sub(r" '(?!<)[^']{2,}'", "", problem)
    return f"{problem}: a text with such signs needs 'single quotes'" if _SIGNS.search(problem) else problem


def _secret_nodes(
    node: yaml.Node, path: tuple[str, ...], is_secret: IsSecret, visited: set[int]
) -> Iterator[tuple[yaml.Node, yaml.ScalarNode]]:
    """Keys and values of the secrets in a document."""
    if id(node) in visited:  # an alias may refer to what it stands in
        return
    visited.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _secret_nodes(item, path, is_secret, visited)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*path, str(key.value))
            if isinstance(value, yaml.ScalarNode) and is_secret(inner):
                yield key, value
            else:
                yield from _secret_nodes(value, inner, is_secret, visited)


def _take_as_text(key: yaml.Node, value: yaml.ScalarNode, text: str) -> None:
    """Make a scalar the text that its user wrote. Raises _SecretError where YAML has made another one of it."""
    start, end = value.start_mark.index, value.end_mark.index
    # An anchor (&a) or a tag (!a) stands before the value and is dropped; an alias (*a) is a value from elsewhere; what
    # follows a # is a comment; lines are folded; in {braces} a comma ends it.
    is_quoted = value.style is not None and text[start] in "'\"|>"
    is_as_written = is_quoted or text[start:end] == value.value
    if start < key.end_mark.index or not is_as_written or (not is_quoted and _CUT.match(text, end)):
        message = f"'{key.value}' is a secret that YAML would change: put it in 'single quotes', alone on its line"
        raise _SecretError(None, None, message, key.start_mark)
    value.tag = _TEXT if value.value or is_quoted else "tag:yaml.org,2002:null"
