"""What users plug in: names like `package.module:function` in settings."""

from importlib import import_module
from typing import Any

from conf.errors import UserError


def import_object(name: str, what: str, error: type[UserError] = UserError) -> Any:
    """The object called `name`. Raises `error`, which says `what` it was to be."""
    module, colon, attribute = name.partition(":")
    if not colon:
        raise error(f"{what} '{name}' is not written as package.module:function")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as problem:
        raise error(f"can't import {what} '{name}': {problem}") from None
