"""A sample of the rows of one part of a site, read as the ingest reads them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from conf import Config, UserError
from conf.site import Action, Impressions, Items, Query, Users
from conf.site.checks import ROLES, Part
from conf.site.declaration import place_of
from etl.ingest.files import FileOptions
from etl.ingest.impressions import LABELLED
from etl.ingest.sites.job import part_options
from etl.site.tables import spread
from etl.sources.detection import NoRowsError, detect_dialect
from etl.sources.dialect import Dialect
from etl.sources.lines import landed_files
from etl.sources.pandas_values import to_times
from etl.sources.sample import RefusedRow, Sample, sample_rows
from etl.sources.texts import WHITESPACE, list_parts
from etl.sources.times import TimeFormat, detect_time_format

_TIME_SAMPLE = 2000


@dataclass(frozen=True)
class Finding:
    """What is wrong with a declaration or with its data."""

    place: str
    """File and line of the declaration."""
    text: str
    """The fault with its evidence, and the cure."""
    is_fault: bool = True
    """Else a warning: it can be meant so."""

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


@dataclass(frozen=True, eq=False)
class PartSample:
    """Rows of one part."""

    part: Part
    files: tuple[Path, ...]
    dialect: Dialect
    frame: pd.DataFrame
    """Texts of the columns; the index has the number of the file and of the line."""
    refused: tuple[tuple[int, RefusedRow], ...]
    """Rows that can't be read, with the number of their file."""
    num_rows: int
    """Of all files, about."""
    is_whole: bool
    time_format: TimeFormat | None = None
    """Of the column of times; None without one, or where it can't be told."""
    problem: str = ""
    """Why the format of the times can't be told."""

    @property
    def place(self) -> str:
        """File and line of the declaration."""
        return place_of(self.part)

    @property
    def kind(self) -> str:
        """As `Action "rating"` or `Items`."""
        name = f' "{self.part.name}"' if isinstance(self.part, Action) else ""
        return f"{type(self.part).__name__}{name}"

    @property
    def roles(self) -> dict[str, str]:
        """Role -> its column, of those that the files have."""
        names = {role: getattr(self.part, role) for role in ROLES[type(self.part)]}
        if isinstance(self.part, Impressions) and self.part.separator is not None and self.part.clicked_by is None:
            names["clicked"] = _label_column(self.part)
        return {role: name for role, name in names.items() if name is not None and name in self.frame}

    def texts(self, role: str) -> pd.Series | None:
        """The texts of a role's column; None where it has none."""
        return self.frame[self.roles[role]] if role in self.roles else None

    @cached_property
    def times(self) -> pd.Series | None:
        """Times of the rows; None where they have none of their own, or their format can't be told."""
        texts = self.texts("at") if not isinstance(self.part, Items | Users) else None
        if texts is None or self.time_format is None:
            return None
        return to_times(texts, self.time_format, self.dialect.decimal)

    def where(self, label: Sequence[int]) -> str:
        """File and line of a row, by its index: `ratings.csv line 1,204`."""
        if isinstance(self.part.source, Query):
            return f"row {label[1]:,}"
        return f"{self.files[label[0]].name} line {label[1]:,}"


def read_part(config: Config, part: Part, paths: Sequence[Path], max_rows: int) -> PartSample:
    """Read rows of a part's files: all of up to twice `max_rows`, else about that many from all over them.

    Args:
        config: `site.timezone`.
        part: of the site.
        paths: its files, or a folder of them.
        max_rows: see above.

    Raises:
        UserError: there is no file, or it can't be read.
    """
    options = part_options(config, part)
    files = tuple(file for path in paths for file in (map(Path, landed_files(path)) if path.is_dir() else [path]))
    samples: dict[int, Sample] = {}
    dialect, empty, num_sampled = None, UserError(f"no rows in {part.source.pattern}"), 0
    for number in spread(len(files)):
        if num_sampled >= 2 * max_rows:
            break
        try:
            dialect = _dialect(files[number], part, options)
            samples[number] = sample_rows(files[number], dialect, max_rows)
        except NoRowsError as error:  # a day without orders
            empty = error
            continue
        num_sampled += len(samples[number].frame)
    if dialect is None or not samples:
        raise empty
    return _joined(part, files, dialect, samples, options)


def _joined(
    part: Part, files: Sequence[Path], dialect: Dialect, samples: Mapping[int, Sample], options: FileOptions
) -> PartSample:
    """The rows of several files, with the number of each row's file in the index."""
    frame = pd.concat({number: sample.frame for number, sample in samples.items()}, names=["file", "line"])
    refused = [(number, row) for number, sample in samples.items() for row in sample.refused]
    sampled_bytes = sum(files[number].stat().st_size for number in samples)
    share = sampled_bytes / max(sum(file.stat().st_size for file in files), 1)
    num_rows, num_read = sum(sample.num_rows for sample in samples.values()), len(frame)
    if isinstance(part, Impressions) and part.separator is not None and part.item in frame:
        frame = _of_lists(frame, part, part.separator)
        num_rows = round(num_rows * len(frame) / max(num_read, 1))
    is_whole = all(sample.is_whole for sample in samples.values())
    form, problem = _time_format(part, frame, options)
    return PartSample(
        part,
        tuple(files),
        dialect,
        frame,
        tuple(refused),
        num_rows=num_rows if share > 0.999 else round(num_rows / share),
        is_whole=is_whole and share > 0.999,
        time_format=form,
        problem=problem,
    )


def _of_lists(frame: pd.DataFrame, part: Impressions, separator: str) -> pd.DataFrame:
    """A row for each item of a list with its label, as `N1-1 N2-0`; one without item for an empty list."""
    entries = frame[part.item].map(lambda text: _parts(text, separator) or [""])
    rows = frame.assign(**{part.item: entries}).explode(part.item)
    places = rows.groupby(level=["file", "line"], sort=False).cumcount().rename("place") + 1
    if part.chosen is None and part.clicked_by is None:
        parts = rows[part.item].str.extract(LABELLED)
        rows = rows.assign(**{part.item: parts[0], _label_column(part): parts[1].fillna("?")})
    elif part.chosen in rows:
        pairs = zip(rows[part.item], rows[part.chosen], strict=True)
        is_clicked = ["1" if item in _parts(chosen, separator) else "0" for item, chosen in pairs]
        rows = rows.assign(**{_label_column(part): is_clicked})
    return rows.set_index(places, append=True).astype(object).where(rows.notna().to_numpy(), None)


def _parts(text: str | None, separator: str) -> list[str]:
    return list_parts((text or "").strip(WHITESPACE), separator)


def _label_column(part: Impressions) -> str:
    return f"label in {part.item}"


def _dialect(path: Path, part: Part, options: FileOptions) -> Dialect:
    names = [*options.columns, *part.columns]
    dialect = detect_dialect(path, options.dialect, names)
    if not dialect.names:
        cure = "name its columns in order, Files(header=(…))"
        raise UserError(f"{path.name} has no header ({dialect.describe()}): {cure}")
    return dialect


def _time_format(part: Part, frame: pd.DataFrame, options: FileOptions) -> tuple[TimeFormat | None, str]:
    """The format of the column of times, or why it can't be told."""
    name = None if isinstance(part, Items | Users) else part.at
    if name is None or name not in frame:
        return None, ""
    if options.time_format is not None:
        return TimeFormat(options.time_format, options.zone), ""
    try:
        return detect_time_format(f'column "{name}"', list(frame[name].dropna().head(_TIME_SAMPLE)), options.zone), ""
    except UserError as error:
        return None, str(error).partition(": give --")[0]
