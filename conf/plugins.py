"""Users' own models, metrics, channels and rankers: settings name them as `package.module:function`.

So may a file of a run folder, which may come from anywhere: what it names is imported only where the user allows it.
"""

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from conf.errors import UserError
from conf.site.loading import own_site_file

# What this process was asked for by its own command line or settings, and so needs no other permission.
_asked_for: set[str] = set()

T = TypeVar("T")


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
    _asked_for.add(module_name)
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


def choose_object(name: str, choices: Mapping[str, T], kind: str, setting: str) -> T:
    """Return one of `choices` by its key, or import it from `package.module:function`.

    Args:
        name: as the setting has it.
        choices: the product's own.
        kind: what it is, in messages, as "channel".
        setting: that names it, in messages.

    Raises:
        UserError: there is no such one (the message lists them), or it can't be imported.
    """
    if ":" in name:
        own: T = import_object(name, f"the {kind} of {setting}")
        return own
    if name not in choices:
        raise UserError(f"{setting} names unknown {kind} '{name}'; choose from {', '.join(choices)}")
    return choices[name]


def import_saved_object(name: str, kind: str, source: Path, allowed: Sequence[str], setting: str) -> Any:
    """Import what a file of a run folder names, if the user allows its module.

    Allowed are what the command line or a setting of this process has named itself, modules beside the site's file,
    and `allowed` with all below them.

    Args:
        name: as of `import_object`.
        kind: what it is for, in messages.
        source: the file that names it.
        allowed: names of packages and modules.
        setting: the one that `allowed` comes from, in messages.

    Raises:
        UserError: the module is not allowed, and has not been imported; or as `import_object`.
    """
    module_name = name.partition(":")[0]
    parents = [module_name.rsplit(".", level)[0] for level in range(module_name.count(".") + 1)]
    if module_name not in _asked_for and not set(parents) & {*allowed} and not _is_beside_site(parents[-1]):
        raise UserError(
            f"{source} names the {kind} '{name}', and to load it runs the code of {module_name}: "
            f"if you trust it, allow it with --set {setting}=[{module_name}]"
        )
    return import_object(name, kind)


def _is_beside_site(package: str) -> bool:
    """Whether a top-level module lies in the folder of the current site's own file, and is what an import gives."""
    if (site := own_site_file()) is None or not package.isidentifier():
        return False
    # Without importing it: a library of that name would come first.
    spec = find_spec(package)
    places = [spec.origin, *(spec.submodule_search_locations or ())] if spec else []
    beside = {site.parent / f"{package}.py", site.parent / package}
    return any(place is not None and Path(place).absolute() in beside for place in places)
