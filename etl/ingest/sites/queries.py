"""The rows of a site's queries, in Parquet files that an ingest reads like any others."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path

from filelock import FileLock
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from conf import Config, Paths, UserError, file_url
from conf.site import Query, Site, SiteError
from conf.site.checks import site_parts
from conf.site.declaration import Fault, place_of
from etl.ingest.sites.source_files import read_texts
from etl.relational.connection import shut_down
from etl.relational.database import find_database
from etl.relational.reading import read_query


@contextmanager
def query_files(
    spark: SparkSession, config: Config, site: Site, folder: Path, day: date | None
) -> Iterator[Mapping[int, list[Path]]]:
    """Run the queries of a site; the files of each by number of its part. They are removed afterwards.

    Args:
        spark: the session.
        config: the home, and `relational.databases`.
        site: the declaration.
        folder: that the patterns of its files start from.
        day: what `{date}` stands for.

    Raises:
        SiteError: queries can't be run, or need a day; with their lines.
    """
    root = config.get(Paths).root / "tmp" / f"site-{site.name}"
    root.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{root}.lock"):  # of loads of two days at once
        shutil.rmtree(root, ignore_errors=True)  # of a killed load
        yield from _run_queries(spark, config, site, folder, day, root)


def _run_queries(
    spark: SparkSession, config: Config, site: Site, folder: Path, day: date | None, root: Path
) -> Iterator[Mapping[int, list[Path]]]:
    files: dict[int, list[Path]] = {}
    faults = []
    try:
        for number, part in enumerate(site_parts(site)):
            if isinstance(part.source, Query):
                try:
                    files[number] = _write(_rows(spark, config, part.source, folder, day), root / str(number))
                except (UserError, PySparkException, Py4JJavaError) as error:
                    lines = [line for line in str(error).partition(" SQLSTATE")[0].splitlines() if line.strip()]
                    faults.append(Fault(place_of(part), lines[0] if lines else type(error).__name__))
        if faults:
            raise SiteError(faults)
        yield files
    finally:
        shutil.rmtree(root, ignore_errors=True)
        for part in site_parts(site):
            for view in part.source.files if isinstance(part.source, Query) else ():
                spark.catalog.dropTempView(view)
        for name in {part.source.database for part in site_parts(site) if isinstance(part.source, Query)} - {None}:
            # A Derby that this JVM has open would be closed to every other process.
            with suppress(UserError):
                shut_down(spark, find_database(config, str(name)))


def _rows(spark: SparkSession, config: Config, query: Query, folder: Path, day: date | None) -> DataFrame:
    if "{date}" in query.sql and day is None:
        raise UserError("the query is of a day: name it with --date")
    for name, source in query.files.items():
        read_texts(spark, config, source, folder, day).createOrReplaceTempView(name)
    sql = query.sql.replace("{date}", day.isoformat() if day else "")
    return spark.sql(sql) if query.database is None else read_query(spark, find_database(config, query.database), sql)


def _write(rows: DataFrame, folder: Path) -> list[Path]:
    """One file for each partition, whose name does not change when the same rows are read again."""
    rows.write.parquet(file_url(folder))
    files = []
    for number, path in enumerate(sorted(folder.glob("*.parquet"))):
        files.append(path.with_name(f"{number}.parquet"))
        path.rename(files[-1])
    return files
