"""The files that a site declares -> the files of an ingest, looked at before Spark starts."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import MappingProxyType

from pyspark.sql import SparkSession

from conf import Config, UserError
from conf.site import Action, Impressions, Items, Number, Outcome, Site, SiteError, Users, Weight
from conf.site.checks import Part, site_parts
from conf.site.declaration import Fault, place_of
from conf.site.loading import site_folder
from conf.site.sources import Files, decimal_of
from etl.ingest import job
from etl.ingest.clicks import ClickRule
from etl.ingest.columns import FACTS, FileRole
from etl.ingest.files import FileGroup, FileOptions
from etl.ingest.requests import examine_paths
from etl.ingest.sites.queries import query_files
from etl.ingest.sites.source_columns import changed_columns, refuse_changed, remember_columns
from etl.ingest.sites.source_files import files_of, source_options
from etl.ingest.sites.views import write_views
from etl.sources.detection import NoRowsError
from etl.warehouse.store import Warehouse

log = logging.getLogger(__name__)

Groups = dict[int, list[FileGroup]]

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
            "chosen": "chosen",
            "timestamp": "at",
            "position": "position",
            "propensity": "propensity",
            "device": "device",
            "request_id": "request",
        },
    ),
}


def load_queried(
    spark: SparkSession, config: Config, site: Site, day: date | None, *, replaces: bool
) -> dict[str, object]:
    """Load a site with queries among its sources.

    Raises:
        SiteError: as `examine_site` and `query_files`.
        UserError: as `etl.ingest.job.run`.
    """
    with query_files(spark, config, site, site_folder(), day) as queried:
        return run(spark, config, site, examine_site(config, site, site_folder(), day, queried), replaces=replaces)


def examine_site(
    config: Config,
    site: Site,
    folder: Path,
    day: date | None,
    queried: Mapping[int, Sequence[Path]] = MappingProxyType({}),
) -> Groups:
    """Look at all files of a site; returns those of each part by its number.

    Args:
        config: `site.timezone`.
        site: the declaration.
        folder: that its patterns start from.
        day: what `{date}` in patterns stands for; None for every day there is.
        queried: files with the rows of queries, by number of the part.

    Raises:
        SiteError: files or columns are missing, files can't be read, or columns came or went; one fault a part, with
            its line.
    """
    groups: dict[int, list[FileGroup]] = {}
    faults = []
    for number, part in enumerate(site_parts(site)):
        role, _ = _COLUMNS[type(part)]
        try:
            paths = files_of(part.source, folder, day) if isinstance(part.source, Files) else queried[number]
            groups[number], descriptions = examine_paths(role, paths, part_options(config, part))
        except NoRowsError as error:
            # A day without orders is no fault; a site without items is one.
            if role not in FACTS:
                faults.append(Fault(place_of(part), str(error)))
            log.warning("%s", error)
            continue
        except UserError as error:
            faults.append(Fault(place_of(part), str(error)))
            continue
        for description in descriptions:
            log.info("%s", description)
        faults += _decimal_faults(part, groups[number])
    if faults := faults or changed_columns(config, site, groups):
        raise SiteError(faults)
    return refuse_changed(config, site, groups)


def run(spark: SparkSession, config: Config, site: Site, groups: Groups, *, replaces: bool) -> dict[str, object]:
    """Load the files that `examine_site` looked at, as `etl.ingest.job.run` does, and keep what columns they had."""
    by_role: dict[FileRole, list[FileGroup]] = {}
    for of_part in groups.values():
        by_role.setdefault(of_part[0].role, []).extend(of_part)
    if not set(by_role) & set(FACTS):
        log.warning("nothing happened: no source of actions or impressions has a row")
        return {"rows_in": 0}
    counts = job.run(spark, config, by_role, job.IngestOptions(replaces=replaces, clicks=_click_rule(site)))
    remember_columns(config, site, groups)
    write_views(spark, Warehouse(spark, config), site)
    return counts


def _click_rule(site: Site) -> ClickRule | None:
    """Which acts are clicks, where the impressions do not say so themselves."""
    rules = [part.clicked_by for part in site_parts(site) if isinstance(part, Impressions)]
    if not rules or rules[0] is None:
        return None
    rule = rules[0]
    sources = [action for action in site.actions if action.column is not None or action.name == rule.action]
    request = next((action.request for action in sources if action.request is not None), None)
    return ClickRule(action=rule.action, at_least=rule.at_least, within_s=60 * rule.within_minutes, request=request)


def _decimal_faults(part: Part, groups: Sequence[FileGroup]) -> list[Fault]:
    """A fault where numbers have other decimals than the declaration says, by which features are read."""
    declared = decimal_of(part.source)
    has_bound = [isinstance(kind, Outcome) and kind.at_least is not None for kind in part.columns.values()]
    if not any(has_bound) and not any(isinstance(kind, Number | Weight) for kind in part.columns.values()):
        return []
    others = {group.dialect.decimal for group in groups} - {declared}
    text = "{}: its numbers have the decimal sign {}: say so, Files(…, decimal={!r})"
    return [Fault(place_of(part), text.format(part.source.pattern, sign, sign)) for sign in sorted(others)]


def _optional_columns(part: Part) -> list[str]:
    """Own columns that files may do without, by the contract; without an outcome no row had a label."""
    if part.source.changes not in ("discard_value", "discard_row"):
        return []
    return [name for name, kind in part.columns.items() if not isinstance(kind, Outcome)]


def part_options(config: Config, part: Part) -> FileOptions:
    """What a part of a site says of its rows; no column is guessed."""
    _, options = _COLUMNS[type(part)]
    named = {getattr(part, option): ours for ours, option in options.items() if getattr(part, option) is not None}
    return replace(
        source_options(config, part.source),
        columns=named,
        # The list that an act happened in stays in its context: clicks of a later load are joined by it, too.
        own=(*part.columns, *([part.request] if isinstance(part, Action) and part.request is not None else [])),
        may_lack=_optional_columns(part),
        has_clicks=not (isinstance(part, Impressions) and part.clicked_by is not None),
        list_separator=part.separator if isinstance(part, Impressions) else None,
        click_from=part.at_least if isinstance(part, Impressions) else None,
        action=part.name if isinstance(part, Action) and part.column is None else None,
    )
