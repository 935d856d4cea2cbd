"""Whether a source has the columns that it had when the site was loaded last: `<home>/sites/<name>.json` has them."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from conf import Config, Paths
from conf.atomic import write_atomically
from conf.site import Site
from conf.site.checks import Part, site_parts
from conf.site.declaration import Fault, place_of
from etl.ingest.files import FileGroup

log = logging.getLogger(__name__)

Columns = dict[str, list[str]]
"""Number and pattern of a source -> its columns, ascending."""


def changed_columns(config: Config, site: Site, groups: Mapping[int, Sequence[FileGroup]]) -> list[Fault]:
    """A fault for each source whose columns came or went, unless the declaration lets them.

    Args:
        config: the home.
        site: the declaration.
        groups: files by number of the part.
    """
    earlier, faults = _read(_path(config, site)), []
    for number, part in enumerate(site_parts(site)):
        if number not in groups or part.source.changes != "freeze":
            continue
        if changes := _changes(earlier.get(_key(number, part)), groups[number]):
            text = f"{part.source.pattern}: other columns than it had: {changes}; if so it shall be, "
            cure = f'say {type(part.source).__name__}(…, changes="evolve"). Nothing was changed'
            faults.append(Fault(place_of(part), text + cure))
    return faults


def refuse_changed(config: Config, site: Site, groups: Mapping[int, Sequence[FileGroup]]) -> dict[int, list[FileGroup]]:
    """The groups, those refused whose columns came or went where the declaration discards their rows."""
    earlier, judged = _read(_path(config, site)), {number: list(of_part) for number, of_part in groups.items()}
    for number, part in enumerate(site_parts(site)):
        if number not in groups or part.source.changes != "discard_row":
            continue
        for place, group in enumerate(groups[number]):
            if changes := _changes(earlier.get(_key(number, part)), [group]):
                log.warning("%s: other columns than before: %s; its rows are refused", ", ".join(group.files), changes)
                judged[number][place] = replace(group, is_refused=True)
    return judged


def _changes(earlier: Sequence[str] | None, groups: Sequence[FileGroup]) -> str:
    """Which columns are new, and which are gone; empty for none, and for a source that was never loaded."""
    if earlier is None:
        return ""
    before, now = set(earlier), set(_columns(groups))
    changes = {"new": now - before, "gone": before - now}
    return "; ".join(f"{word}: {', '.join(sorted(names))}" for word, names in changes.items() if names)


def remember_columns(config: Config, site: Site, groups: Mapping[int, Sequence[FileGroup]]) -> None:
    """Keep the columns of all sources, after they were loaded."""
    path = _path(config, site)
    columns = _read(path)
    parts: Sequence[Part] = site_parts(site)
    for number, of_part in groups.items():
        if accepted := [group for group in of_part if not group.is_refused]:
            columns[_key(number, parts[number])] = _columns(accepted)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(columns, indent=1))


def _columns(groups: Sequence[FileGroup]) -> list[str]:
    # A key of JSON may be left out where it has no value.
    return sorted({name for group in groups if group.dialect.kind != "json" for name in group.dialect.names})


def _key(number: int, part: Part) -> str:
    return f"{number} {part.source.pattern}"


def _path(config: Config, site: Site) -> Path:
    return config.get(Paths).root / "sites" / f"{site.name}.json"


def _read(path: Path) -> Columns:
    try:
        columns: Columns = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        log.warning("%s is damaged: columns are not compared with those of the last load", path)
        return {}
    return columns
