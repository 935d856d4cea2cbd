"""Options of the command line -> the files of an ingest, looked at and grouped; what was detected is printed."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from zoneinfo import available_timezones

from conf import Config, UsageError, UserError
from conf.console.cli import one_of, parse_day
from conf.site.sources import DAY_BY_NAME
from etl.ingest.columns import FileRole, parse_mapping
from etl.ingest.files import FileGroup, FileOptions, examine
from etl.ingest.formats import AUTO, FORMATS
from etl.settings import SiteSettings
from etl.sources.dialect import DialectOptions
from etl.sources.encodings import normalized_encoding
from etl.sources.lines import landed_files
from etl.sources.times import parse_time_format

log = logging.getLogger(__name__)

# By their names, what public data sets have beside their data.
_DOCUMENTATION_SUFFIXES, _DOCUMENTATION_STEMS = (".md", ".pdf", ".html"), ("readme", "license", "licence")
_SPECIAL = {"tab": "\t", "\\t": "\t", "blank": " ", "^A": "\x01", "\\u0001": "\x01"}


@dataclass(frozen=True, kw_only=True)
class LayoutOptions:
    """What a user says of the files, as text; None for what is to be detected."""

    format: str = AUTO
    columns: Mapping[FileRole, Sequence[str]] = field(default_factory=dict)
    """`NAME=OURS` of each role."""
    headers: Mapping[FileRole, str | None] = field(default_factory=dict)
    """Names of the columns in order, separated by commas."""
    separator: str | None = None
    quote: str | None = None
    escape: str | None = None
    encoding: str | None = None
    decimal: str | None = None
    skip_lines: int = 0
    """Of the ratings."""
    time_format: str | None = None
    timezone: str | None = None
    day: str | None = None
    is_time_order: bool = False


def examine_all(
    config: Config, files: Mapping[FileRole, Sequence[Path]], layout: LayoutOptions
) -> dict[FileRole, list[FileGroup]]:
    """Look at all files of a command, before Spark starts.

    Args:
        config: `site.timezone`.
        files: files or folders of each role; none for a role that has none.
        layout: what is known of them.

    Raises:
        UsageError: an option has no such value.
        UserError: as `examine`.
    """
    groups: dict[FileRole, list[FileGroup]] = {}
    preset = FORMATS[one_of("format", layout.format, FORMATS)]
    for role, paths in files.items():
        if paths:
            header = layout.headers.get(role)
            names = tuple(name.strip() for name in header.split(",")) if header else preset.names.get(role, ())
            options = replace(
                file_options(config, layout, names=names, skip_lines=layout.skip_lines if role == "ratings" else 0),
                columns=parse_mapping(role, layout.columns.get(role, ())),
            )
            groups[role], descriptions = examine_paths(role, paths, options)
            for description in descriptions:
                log.info("%s", description)
    return groups


def examine_paths(role: FileRole, paths: Sequence[Path], options: FileOptions) -> tuple[list[FileGroup], list[str]]:
    """As `examine`; a folder stands for its files."""
    return examine(role, _expand(paths), options)


def _check(layout: LayoutOptions) -> None:
    if layout.decimal not in (None, ".", ","):
        raise UsageError(f"--decimal '{layout.decimal}': it is . or ,")
    if layout.quote not in (None, "none") and len(layout.quote) != 1:
        raise UsageError(f"--quote '{layout.quote}': one character, or none")
    if layout.escape not in (None, "\\"):
        raise UsageError(f"--escape '{layout.escape}': only a backslash can be one")
    if layout.timezone is not None and layout.timezone not in available_timezones():
        raise UsageError(f"--timezone '{layout.timezone}': there is no such zone; write it as Europe/Berlin")
    if layout.day not in (None, DAY_BY_NAME):
        parse_day(layout.day)
    if layout.is_time_order and layout.day is None:
        raise UsageError("--order-as-time needs --day: the day that the order is of")


def file_options(config: Config, layout: LayoutOptions, *, names: Sequence[str] | None, skip_lines: int) -> FileOptions:
    """What is known of the files of one role, without their columns.

    Args:
        config: `site.timezone`.
        layout: as text.
        names: of the columns, in order, of files without a header.
        skip_lines: before the header or the first row.

    Raises:
        UsageError: an option has no such value.
    """
    _check(layout)
    preset = FORMATS[layout.format]
    separator = layout.separator if layout.separator is not None else preset.separator
    dialect = DialectOptions(
        encoding=normalized_encoding(layout.encoding) if layout.encoding else None,
        separator=_SPECIAL.get(separator, separator) if separator else None,
        quote=layout.quote,
        escape=layout.escape,
        decimal=layout.decimal,
        skip_lines=skip_lines,
        names=tuple(names or ()),
    )
    return FileOptions(
        format=preset,
        dialect=dialect,
        time_format=parse_time_format(layout.time_format) if layout.time_format else None,
        zone=layout.timezone or config.get(SiteSettings).zone,
        day=layout.day,
        is_time_order=layout.is_time_order,
    )


def _expand(paths: Sequence[Path]) -> list[Path]:
    """The files, with folders replaced by theirs."""
    files: list[Path] = []
    for path in paths:
        inside = [path]
        if path.is_dir():
            inside = []
            for file in map(Path, landed_files(path)):
                if file.suffix.casefold() in _DOCUMENTATION_SUFFIXES or file.stem.casefold() in _DOCUMENTATION_STEMS:
                    log.warning("%s is left out: by its name it has no rows", file)
                else:
                    inside.append(file)
        if not inside:
            raise UserError(f"{path} has no files")
        files += inside
    return files
