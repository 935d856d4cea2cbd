"""Reading YAML of users: mistakes are named with their place, and a key that is given twice is one of them."""

from collections.abc import Hashable
from typing import Any

import yaml

from conf.errors import UserError


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML forbids a key twice in a mapping; PyYAML silently takes the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[Any, int] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in lines:
                raise yaml.constructor.ConstructorError(
                    None, None, f"'{key}' stands here a second time, first in line {lines[key]}", key_node.start_mark
                )
            lines[key if isinstance(key, Hashable) else id(key_node)] = key_node.start_mark.line + 1
        return super().construct_mapping(node, deep=deep)


def parse_yaml(text: str, where: str) -> Any:
    """Parse YAML.

    Args:
        text: the YAML; it is in no message, because it may be a secret.
        where: names the file, variable or option in messages.

    Raises:
        UserError: it is not valid YAML, or gives a key twice; the message says where and in which line.
    """
    try:
        return yaml.load(text, _UniqueKeyLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{where}, line {mark.line + 1}, column {mark.column + 1}" if mark else where
        raise UserError(f"{place}: not valid YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2026-13-01
        raise UserError(f"{where}: not valid YAML: {str(error).splitlines()[0]}") from None
