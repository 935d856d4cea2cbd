"""Users' own models, metrics, channels and rankers: settings name them as `package.module:function`."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from conf.errors import UserError


def add_current_folder() -> None:
    """Put the current folder last on `sys.path`: a console script, unlike `python -m`, leaves it out.

    Last, so that a file there named like a library (random.py, ray.py) never takes the library's place.
    """
    # An absolute path, not "", which would follow every later change of folder, and another in each Ray worker.
    try:
        folder = str(Path.cwd())
    except FileNotFoundError:  # the current folder was deleted: then it holds no modules either
        return
    if folder not in sys.path:
        sys.path.append(folder)


def import_object(name: str, kind: str, error: type[UserError] = UserError) -> Any:
    """Import what `name` ("package.module:function") says; modules of the current folder are found, too.

    `kind` says in messages what the object is for: "model", "the metric of train.metrics".

    Raises:
        UserError: or `error`, when the name is malformed, there is no such module or object, or the module exists
            and fails to import.
    """
    module_name, colon, attribute = name.partition(":")
    if not colon:
        raise error(f"{kind} '{name}' is not written as package.module:function")
    add_current_folder()  # here too, for workers that did not come through the front door
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as problem:
        # `problem.name` is my_package.net or my_package when they are missing; anything else is missing inside them.
        if problem.name is not None and f"{module_name}.".startswith(f"{problem.name}."):
            raise error(
                f"can't import {kind} '{name}': no module {problem.name} in {Path.cwd()} or on PYTHONPATH"
            ) from None
        raise error(f"can't import {kind} '{name}': {module_name} needs a module that is missing: {problem}") from None
    except Exception as problem:  # whatever the user's module does while it is imported, a SyntaxError too
        first_line = next(iter(str(problem).splitlines()), "")
        raise error(
            f"can't import {kind} '{name}': importing {module_name} failed: {type(problem).__name__}: {first_line}"
        ) from problem
    if not hasattr(module, attribute):
        raise error(f"can't import {kind} '{name}': module {module_name} has no {attribute}")
    return getattr(module, attribute)
