"""The files of one ingest: what they hold, how they are laid out, and which are read together."""

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import islice
from pathlib import Path

from conf import UserError
from conf.site.sources import DAY_BY_NAME
from etl.ingest.columns import (
    FACTS,
    OPTIONS,
    REQUIRED,
    USUAL_NAMES,
    ColumnMap,
    FileRole,
    is_rating,
    map_columns,
    missing_columns,
)
from etl.ingest.formats import FORMATS, FileFormat
from etl.sources.compressed import open_unpacked
from etl.sources.detection import NoRowsError, detect_dialect, header_line, sample_columns
from etl.sources.dialect import Dialect, DialectOptions, bare_name, split_line
from etl.sources.times import TimeFormat, detect_time_format
from etl.sources.values import are_decimals, has_damaged_ids

log = logging.getLogger(__name__)

_NUM_LINES, _MAX_ROW_CHARS = 50, 80  # looked at for an example of a row
# As most files without a header have them.
_USUAL_ORDER: Mapping[FileRole, Sequence[str]] = {"ratings": ("user_id", "item_id", "value", "timestamp", "action")}
_TIME_COLUMNS = ("timestamp", "published_at", "registered_at")
# Read by Java, too.
DATE_IN_NAME = r"(?<!\d)((?:19|20)\d{2})[-_.]?(\d{2})[-_.]?(\d{2})(?!\d)"
# Columns by which sets of impressions say which ones were clicked, liked or bought; by `bare_name`.
_LABELS = (
    *("click", "clicked", "clk", "isclick", "label", "target", "like", "liked", "islike"),
    *("purchase", "purchased", "bought", "buy", "isbuy", "conversion", "converted"),
)
_NOT = {"0", "0.0", "false"}
# A list of what was shown, each with whether it was clicked: `N138-1 N64727-0`.
_LABELLED_LIST = re.compile(r"\s*[^\s,;|]+[-:=][01](?:[ ,;|]+[^\s,;|]+[-:=][01])+\s*")
_HEADER_OPTIONS: dict[FileRole, str] = {
    "ratings": "--header",
    "impressions": "--header",
    "items": "--item-header",
    "users": "--user-header",
}


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """What the user says of the files of one role."""

    format: FileFormat = field(default_factory=FileFormat)
    dialect: DialectOptions = field(default_factory=DialectOptions)
    columns: Mapping[str, str] = field(default_factory=dict)
    """The file's name of a column -> ours."""
    time_format: str | None = None
    zone: str = "UTC"
    day: str | None = None
    """For ratings without times: a date, or `name` for the one in each file's name."""
    is_time_order: bool = False
    """The order of the rows is that of time."""
    own: Sequence[str] | None = None
    """Columns that a site declares as its own; None to guess which columns are which."""
    may_lack: Sequence[str] = ()
    """Those of them that a file may do without: they have no value in its rows."""
    action: str | None = None
    """Of all rows, where no column names it."""
    list_separator: str | None = None
    """Between the items of a cell, for impressions whose rows are lists."""
    click_from: float | None = None
    """Smallest value of a click, for impressions whose clicks are numbers."""
    has_clicks: bool = True
    """Whether impressions say themselves what was clicked."""


@dataclass(frozen=True)
class FileGroup:
    """Files with the same layout and columns, which Spark reads together."""

    role: FileRole
    files: tuple[str, ...]
    dialect: Dialect
    columns: ColumnMap
    times: Mapping[str, TimeFormat]
    """Our name of a column of times -> its format."""
    day: date | None = None
    """The day of all rows, where these have no time of their own; None for the date in each file's name."""
    is_time_order: bool = False
    action: str | None = None
    """Of all rows, where no column names it; None for what the command says."""
    list_separator: str | None = None
    """Between the items of a cell, for impressions whose rows are lists."""
    click_from: float | None = None
    """Smallest value of a click, for impressions whose clicks are numbers."""
    has_clicks: bool = True
    """Whether impressions say themselves what was clicked."""
    is_declared: bool = False
    """By a site, which may read the same lines in several ways."""
    is_refused: bool = False
    """Whether all rows are refused, for other columns than the source had before."""

    def reading(self, action: str | None) -> str:
        """What rows are read as: the same lines read otherwise are other rows. Empty for an ingest without an action.

        Args:
            action: of rows without one, as the command says.
        """
        if not self.is_declared:
            return action or ""
        # Only where it is given: files that were loaded before there was such an option stay known.
        clicks = (*([] if self.click_from is None else [self.click_from]), *([] if self.has_clicks else ["acts"]))
        columns = (sorted(self.columns.sources.items()), self.columns.others)
        parts = (self.role, self.action, *columns, self.list_separator, *clicks)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:8]


def examine(role: FileRole, paths: Sequence[Path], options: FileOptions) -> tuple[list[FileGroup], list[str]]:
    """Look at files, before Spark starts.

    Args:
        role: what they are for.
        paths: the files; one that is named twice is read once.
        options: what is known of them.

    Returns:
        The files by layout, and a line for each layout that says what was detected.

    Raises:
        UserError: a file is missing, empty, damaged or no table, a column is missing, or times can't be told.
    """
    groups: dict[tuple[object, ...], FileGroup] = {}
    empty: list[NoRowsError] = []
    # One of each column, not of each of hundreds of files.
    warnings: dict[str, str] = {}
    for path in dict.fromkeys(path.resolve() for path in paths):
        try:
            group = _examine_file(role, path, options, warnings)
        except NoRowsError as error:
            # A day without orders, a part of Spark's without rows.
            empty.append(error)
            continue
        layout = (group.dialect, tuple(group.columns.sources.items()), tuple(group.times.items()))
        if (same := groups.get(layout)) is not None:
            group = replace(same, files=same.files + group.files)
        groups[layout] = group
    if empty and not groups:
        raise empty[0]
    for warning in (*map(str, empty), *warnings.values()):
        log.warning("%s", warning)
    return list(groups.values()), [_describe(group) for group in groups.values()]


def _examine_file(role: FileRole, path: Path, options: FileOptions, warnings: dict[str, str]) -> FileGroup:
    """Look at one file; `warnings` gets a line for each column that is odd and has none yet."""
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    usual = [name for ours, names in USUAL_NAMES[role].items() for name in (ours, *names)]
    known = [*usual, *options.columns, *options.format.columns]
    dialect = detect_dialect(path, options.dialect, known)
    if not dialect.names and options.own is None and (names := _movielens_names(role, path, dialect)):
        dialect = detect_dialect(path, replace(options.dialect, names=names), known)
    if not dialect.names:
        raise _no_header(role, path, dialect, options, usual)
    lacking = missing_columns(options.may_lack, dialect.names)
    for name in lacking:
        warnings.setdefault(name, f"{path}: no column {name}: its rows have no value of it")
    own = [name for name in options.own if name not in lacking] if options.own is not None else None
    columns = map_columns(str(path), role, dialect.names, options.columns, options.format.columns, own)
    samples = sample_columns(path, dialect, [*columns.sources.values(), *columns.others])
    _check_ids(path, role, dialect, columns, samples)
    for column, text in _warnings(role, columns, samples):
        warnings.setdefault(column, f"{path}: {column} {text}")
    times = {}
    for name in _TIME_COLUMNS:
        if (source := columns.sources.get(name)) and (role in FACTS or samples[source]):
            times[name] = _time_format(f"{path}: {source}", role, samples[source], options)
    if role in FACTS and times and options.day is not None:
        name = columns.sources["timestamp"]
        raise UserError(f"{path} has times ({name}): --day has no effect; --column {name}= leaves them out")
    group = FileGroup(
        role,
        (str(path),),
        dialect,
        columns,
        times,
        action=options.action,
        list_separator=options.list_separator,
        click_from=options.click_from,
        has_clicks=options.has_clicks,
        is_declared=options.own is not None,
    )
    if role in FACTS and not times:
        return replace(group, day=_day_of_file(path, dialect, options), is_time_order=options.is_time_order)
    return group


def _movielens_names(role: FileRole, path: Path, dialect: Dialect) -> tuple[str, ...]:
    """The columns of a file without header that is laid out as MovieLens' `.dat` ones are; none for another file."""
    movielens = FORMATS["movielens"]
    names = movielens.names.get(role, ())
    is_alike = dialect.separator == movielens.separator and len(_typical_row(path, dialect)[1]) == len(names)
    return names if is_alike else ()


def _typical_row(path: Path, dialect: Dialect) -> tuple[int, list[str]]:
    """The number of the first line, from 0, that has as many cells as most of the first ones, and these cells."""
    with open_unpacked(path) as stream:
        head = [line.decode(dialect.encoding, errors="replace") for line in islice(stream, _NUM_LINES)]
    rows = [split_line(line.rstrip("\r\n"), dialect) or [] for line in head]
    commonest = Counter(map(len, rows)).most_common(1)[0][0]
    return next((number, row) for number, row in enumerate(rows) if len(row) == commonest)


def _no_header(role: FileRole, path: Path, dialect: Dialect, options: FileOptions, names: Sequence[str]) -> UserError:
    """What to do about a file without a header; it may have one below other lines."""
    if number := header_line(path, options.dialect, names):
        cure = f"--skip-lines {number - 1}" if role == "ratings" else "remove the lines before it"
        return UserError(f"{path}: line {number} looks like the header: {cure}")
    skipped, cells = _typical_row(path, dialect)
    usual = _USUAL_ORDER.get(role, tuple(USUAL_NAMES[role]))
    example = ",".join([*usual, *(f"column_{n}" for n in range(len(usual) + 1, len(cells) + 1))][: len(cells)])
    skipping = f"--skip-lines {skipped} " if skipped and role == "ratings" else ""
    return UserError(
        f"{path} has no header ({dialect.describe()}); line {skipped + 1} is "
        f"{dialect.separator.join(cells)[:_MAX_ROW_CHARS]}: name its columns in order, as "
        f"{skipping}{_HEADER_OPTIONS[role]} {example}"
    )


def _check_ids(
    path: Path, role: FileRole, dialect: Dialect, columns: ColumnMap, samples: Mapping[str, Sequence[str]]
) -> None:
    """Check that ids are texts or numbers.

    Raises:
        UserError: what should be an id is a list or an object.
    """
    for ours in REQUIRED[role]:
        name = columns.sources[ours]
        first = next(iter(samples[name]), "")
        if dialect.kind != "delimited" and first.startswith(("{", "[")):
            raise UserError(
                f"{path}: {name} is a list or an object ({first[:40]}): name what is in it, as "
                f"{OPTIONS[role]} {name}.id={ours}"
            )
        if role == "ratings" and sum(map(bool, map(_LABELLED_LIST.fullmatch, samples[name]))) > len(samples[name]) / 2:
            raise UserError(
                f"{path}: {name} has lists of items with labels ({first[:20]}…), each of which would be one id: the "
                "rows are Impressions of a site, with separator=' ' (docs/your-own-data.md)"
            )


def _warnings(role: FileRole, columns: ColumnMap, samples: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    """What the samples say that a user may not mean: a column, and the rest of the sentence."""
    for name in columns.others:
        if has_damaged_ids(samples[name]):
            yield name, f"was rounded by a spreadsheet ({samples[name][0]}): different ones are equal"
    for name in (columns.sources[ours] for ours in REQUIRED[role]):
        if are_decimals(samples[name]):
            yield name, f"has ids with a decimal point ({samples[name][0]}): '1' in another file is another id"
    value = columns.sources.get("value", "")
    if role != "ratings" or "action" in columns.sources:
        return
    for name in filter(None, (value, *columns.others)):
        is_label = name == value or bare_name(name) in _LABELS
        no = next((text for text in samples[name] if text.strip().lower() in _NOT), None)
        if is_label and not is_rating(name) and no is not None:
            yield (
                name,
                (
                    f"is {no.strip()} in some rows, which count as clicks all the same: leave them out, or load it as "
                    f"ratings (--column {name}=value --action rating, features.min_rating=1)"
                ),
            )


def _time_format(place: str, role: FileRole, samples: Sequence[str], options: FileOptions) -> TimeFormat:
    # A format that is given is that of the ratings: dates of users and items are hardly ever written the same way.
    if role in FACTS and options.time_format is not None:
        return TimeFormat(options.time_format, options.zone)
    try:
        return detect_time_format(place, samples, options.zone)
    except UserError as error:
        if role in FACTS:
            raise
        if options.time_format is not None:
            return TimeFormat(options.time_format, options.zone)
        name = place.rpartition(": ")[2]
        raise UserError(f"{error}, or leave it out, {OPTIONS[role]} {name}=") from None


def _day_of_file(path: Path, dialect: Dialect, options: FileOptions) -> date | None:
    if options.day is None:
        raise UserError(
            f"{path}: no column timestamp; found {', '.join(dialect.names)}: name it with --column NAME=timestamp, or "
            "say of which day the rows are: --day 2026-01-07, or --day name for the date in the file's name"
        )
    if options.day != DAY_BY_NAME:
        return date.fromisoformat(options.day)
    match = re.search(DATE_IN_NAME, path.name)
    try:
        date(*map(int, match.groups() if match else ()))
    except (TypeError, ValueError):
        raise UserError(f"{path}: no date in its name, as 2026-01-07 or 20260107") from None
    return None


def _describe(group: FileGroup) -> str:
    first = Path(group.files[0]).name + (f" and {len(group.files) - 1} more" if len(group.files) > 1 else "")
    parts = [f"{first}: {group.dialect.describe()}", group.columns.describe()]
    parts += [f"{name} is {times.describe()}" for name, times in group.times.items()]
    if group.role in FACTS and not group.times:
        order = ", in the order of the rows" if group.is_time_order else ""
        parts.append(f"no times: the rows are of {group.day or 'the day in the name of their file'}{order}")
    return "; ".join(parts)
