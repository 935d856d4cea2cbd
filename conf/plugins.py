"""What users plug in: names like `package.module:function` in settings."""

from importlib import import_module
from typing import Any

from conf.errors import UserError


def imported(name: str, setting: str) -> Any:
    """The object called `name`. Raises UserError that says which `setting` named it."""
    module, colon, attribute = name.partition(":")
    if not colon:
        raise UserError(f"{setting}: '{name}' is not written as package.module:function")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{setting}: can't import '{name}': {error}") from None
