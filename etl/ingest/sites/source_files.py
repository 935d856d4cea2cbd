"""The files of a declared source: which ones, how they are laid out, and as tables of a query."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from functools import reduce
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from conf import Config, UserError
from conf.site.sources import Files, Source
from etl.ingest.files import FileOptions
from etl.ingest.requests import LayoutOptions, file_options
from etl.sources.detection import detect_dialect
from etl.sources.dialect import Dialect
from etl.sources.lines import landed_files
from etl.sources.rows import read_rows

log = logging.getLogger(__name__)


def source_options(config: Config, source: Source) -> FileOptions:
    """What a source says of its rows, without their columns.

    Raises:
        UsageError: an option has no such value.
    """
    layout = LayoutOptions(time_format=source.time_format, timezone=source.timezone, day=source.day)
    names, skip_lines = None, 0
    if isinstance(source, Files):
        names, skip_lines = source.header, source.skip_lines
        layout = replace(
            layout,
            separator=source.separator,
            quote=source.quote,
            escape=source.escape,
            encoding=source.encoding,
            decimal=source.decimal,
            is_time_order=source.is_time_order,
        )
    return file_options(config, layout, names=names, skip_lines=skip_lines)


def files_of(source: Files, folder: Path, day: date | None) -> Sequence[Path]:
    """The files of a source, in the order of their names.

    Raises:
        UserError: there are none.
    """
    pattern = source.pattern.replace("{date}", day.isoformat() if day else "*")
    path = folder / pattern
    if path.exists():  # a name may have brackets
        return [path]
    base = Path(path.anchor) if Path(pattern).is_absolute() else folder
    try:
        paths = sorted(base.glob(str(path.relative_to(base))))
    except ValueError as error:
        raise UserError(f"{source.pattern}: {error}") from None
    if not paths:
        raise UserError(f"no file {path}")
    return paths


def read_texts(spark: SparkSession, config: Config, source: Files, folder: Path, day: date | None) -> DataFrame:
    """All rows of a source's files, their columns as text; a column that some files lack is null there.

    Raises:
        UserError: there is no file, one has no header, or a row can't be read.
    """
    options = source_options(config, source).dialect
    by_dialect: dict[Dialect, list[str]] = {}
    for path in files_of(source, folder, day):
        for file in landed_files(path) if path.is_dir() else [str(path)]:
            dialect = detect_dialect(Path(file), options)
            if not dialect.names:
                raise UserError(f"{file} has no header ({dialect.describe()}): name its columns, Files(header=(…))")
            by_dialect.setdefault(dialect, []).append(file)
    frames = [_texts_of(spark, dialect, files) for dialect, files in by_dialect.items()]
    return reduce(lambda one, other: one.unionByName(other, allowMissingColumns=True), frames)


def _texts_of(spark: SparkSession, dialect: Dialect, files: Sequence[str]) -> DataFrame:
    log.info("%s%s: %s", files[0], f" and {len(files) - 1} more" if len(files) > 1 else "", dialect.describe())
    for is_multiline in (False, True):
        rows = read_rows(spark, files, dialect, is_multiline=is_multiline)
        wrong = rows.frame.where("fault is not null").select("fault", "file", "line").head()
        if wrong is None or wrong["fault"] != "bad_quotes":
            break
    if wrong is not None:
        # A query has no place for what it could not read, and must not lose it in silence.
        line = wrong["line"] if len(wrong["line"]) <= 80 else wrong["line"][:79] + "…"
        raise UserError(f"{wrong['file']}: {wrong['fault']} in {line!r}: correct that row; a query reads all or none")
    return rows.frame.select(*[F.nullif(rows.cell(name), F.lit("")).alias(name) for name in dialect.names])
