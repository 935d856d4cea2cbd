"""Read a site's file, and find the site of this process."""

import os
import traceback
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from conf.errors import UserError
from conf.site.checks import site_faults
from conf.site.declaration import Fault, SiteError, collected_faults
from conf.site.site import Site

SITE_VARIABLE = "MILLRACE_SITE"
FOLDER_VARIABLE = "MILLRACE_SITE_FOLDER"
NAME = "SITE"  # of the value in the file


def choose_site(name: str | None) -> None:
    """Make a site that of this process and of those that it starts; without one, that of MILLRACE_SITE stays.

    Args:
        name: file, or name of a ready site.

    Raises:
        UserError: there is no such site.
        SiteError: its declaration is wrong.
    """
    if name is not None:
        # The whole path: a process that is started may work in another folder.
        os.environ[SITE_VARIABLE] = name if _is_ready(name) else str(Path(name).absolute())
    current_site()


def current_site() -> Site | None:
    """The site of this process: that of `--site`, which sets the variable, or of MILLRACE_SITE; None for none.

    Raises:
        UserError: there is no such file.
        SiteError: the declaration is wrong.
    """
    name = os.environ.get(SITE_VARIABLE)
    return load_site(site_file(name)) if name else None


def own_site_file() -> Path | None:
    """The file of this process's site; None without a site, and for a ready one."""
    name = os.environ.get(SITE_VARIABLE)
    return None if not name or _is_ready(name) else site_file(name)


def site_folder() -> Path:
    """The folder that the patterns of the current site's files start from.

    Of a ready site it is the current folder: its files lie where the user has them.
    """
    file = own_site_file()
    return Path(os.environ.get(FOLDER_VARIABLE) or (Path.cwd() if file is None else file.parent))


def submitted_site() -> dict[str, str]:
    """Variables by which a job on a cluster has this process's site, whose file travels with the code."""
    if SITE_VARIABLE not in os.environ:
        return {}
    name = os.environ[SITE_VARIABLE] if own_site_file() is None else "submitted"
    return {SITE_VARIABLE: name, FOLDER_VARIABLE: str(site_folder())}


def ready_sites() -> list[str]:
    """Names of the sites that come with the package, which `--site` takes as well as a file."""
    names = (entry.name for entry in files("conf.sites").iterdir())
    return sorted(
        name.removesuffix(".py").replace("_", "-")
        for name in names
        if name.endswith(".py") and not name.startswith("_")
    )


def _is_ready(name: str) -> bool:
    return name in ready_sites() and not Path(name).is_file()


def site_file(name: str) -> Path:
    """The file of a site by its path, or by the name of a ready one.

    Raises:
        UserError: there is neither.
    """
    if Path(name).is_file():
        return Path(name).absolute()
    if name in ready_sites():
        return Path(str(files("conf.sites").joinpath(f"{name.replace('-', '_')}.py")))
    raise UserError(f"no file {name}, and no ready site of that name; ready are {', '.join(ready_sites())}")


@lru_cache(maxsize=8)
def load_site(file: Path) -> Site:
    """Run a site's file and check what it declares.

    Args:
        file: Python that sets SITE.

    Raises:
        SiteError: it can't be run, or what it declares can't be right; all faults of it, each with its line.
    """
    with collected_faults() as faults:
        site = _run(file, faults)
        if isinstance(site, Site) and not faults:
            faults.extend(site_faults(site))
    if faults or not isinstance(site, Site):
        raise SiteError(faults)
    return site


def source_of(file: Path) -> str:
    """The text of a site's file; of a ready one, the package may lie in an archive."""
    ready = files("conf.sites").joinpath(file.name)
    return file.read_text("utf-8") if file.is_file() or not ready.is_file() else ready.read_text("utf-8")


def _run(file: Path, faults: list[Fault]) -> object:
    """The value of SITE; what goes wrong is added to `faults`."""
    values: dict[str, Any] = {"__name__": "site", "__file__": str(file)}
    try:
        exec(compile(source_of(file), str(file), "exec"), values)
    except SyntaxError as error:
        faults.append(Fault(f"{file.name}:{error.lineno}", f"no Python: {error.msg}"))
        return None
    except Exception as error:  # whatever the user's code does
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        place = f"{file.name}:{lines[-1]}" if lines else file.name
        # What follows a fault, such as an attribute that it left out, says nothing new.
        if not faults:
            faults.append(Fault(place, f"{type(error).__name__}: {error}"))
        return None
    site = values.get(NAME)
    if not isinstance(site, Site) and not faults:
        names = [name for name, value in values.items() if isinstance(value, Site)]
        hint = f"; call {names[0]} so" if names else ""
        faults.append(Fault(file.name, f"it sets no {NAME} = Site(…){hint}"))
    return site
