"""The files that a site declares -> the files of an ingest, looked at before Spark starts."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

from conf import Config, UserError
from conf.site import Action, Impressions, Items, Site, SiteError, Users
from conf.site.checks import site_parts
from conf.site.declaration import Fault, place_of
from conf.site.sources import Files
from etl.ingest.columns import FileRole
from etl.ingest.files import FileGroup, FileOptions
from etl.ingest.requests import LayoutOptions, examine_paths, file_options

log = logging.getLogger(__name__)

Part = Items | Users | Action | Impressions

# Our name of a column -> the part's option that names it.
_COLUMNS: dict[type, tuple[FileRole, dict[str, str]]] = {
    Items: (
        "items",
        {
            "item_id": "key",
            "title": "title",
            "category": "category",
            "author": "author",
            "published_at": "published_at",
            "release_year": "release_year",
        },
    ),
    Users: (
        "users",
        {"user_id": "key", "gender": "gender", "age": "age", "city": "city", "registered_at": "registered_at"},
    ),
    Action: (
        "ratings",
        {"user_id": "user", "item_id": "item", "timestamp": "at", "value": "value", "action": "column"},
    ),
    Impressions: (
        "impressions",
        {
            "user_id": "user",
            "item_id": "item",
            "clicked": "clicked",
            "timestamp": "at",
            "position": "position",
            "device": "device",
            "request_id": "request",
        },
    ),
}


def examine_site(config: Config, site: Site, folder: Path, day: date | None) -> dict[FileRole, list[FileGroup]]:
    """Look at all files of a site.

    Args:
        config: `site.timezone`.
        site: the declaration.
        folder: that its patterns start from.
        day: what `{date}` in patterns stands for; None for every day there is.

    Raises:
        SiteError: files or columns are missing, or files can't be read; one fault a part, with its line.
    """
    groups: dict[FileRole, list[FileGroup]] = {}
    faults = []
    for part in site_parts(site):
        role, _ = _COLUMNS[type(part)]
        try:
            paths = files_of(part.source, folder, day)
            of_part, descriptions = examine_paths(role, paths, part_options(config, part))
        except UserError as error:
            faults.append(Fault(place_of(part), str(error)))
            continue
        for description in descriptions:
            log.info("%s", description)
        groups.setdefault(role, []).extend(of_part)
    if faults:
        raise SiteError(faults)
    return groups


def part_options(config: Config, part: Part) -> FileOptions:
    """What a part of a site says of its files; no column is guessed."""
    _, options = _COLUMNS[type(part)]
    source = part.source
    layout = LayoutOptions(
        separator=source.separator,
        quote=source.quote,
        escape=source.escape,
        encoding=source.encoding,
        decimal=source.decimal,
        skip_lines=source.skip_lines,
        time_format=source.time_format,
        timezone=source.timezone,
        day=source.day,
        is_time_order=source.is_time_order,
    )
    named = {getattr(part, option): ours for ours, option in options.items() if getattr(part, option) is not None}
    return replace(
        file_options(config, layout, names=source.header, skip_lines=source.skip_lines),
        columns=named,
        own=tuple(part.columns),
        action=part.name if isinstance(part, Action) and part.column is None else None,
    )


def files_of(source: Files, folder: Path, day: date | None) -> Sequence[Path]:
    """The files of a source, in the order of their names.

    Raises:
        UserError: there are none.
    """
    pattern = source.pattern.replace("{date}", day.isoformat() if day else "*")
    path = folder / pattern
    if path.is_dir():
        return [path]
    base = Path(path.anchor) if path.is_absolute() else Path()
    paths = sorted(file for file in base.glob(str(path.relative_to(base))) if file.is_file())
    if not paths:
        raise UserError(f"no file {path}")
    return paths
