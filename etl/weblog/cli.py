"""`millrace etl weblog`: web logs into warehouse tables."""

from typing import Annotated

import typer

from conf import Paths, UsageError
from conf.console.cli import SinceOption, parse_days, settings_of

app = typer.Typer()

SMALL_LOG_BYTES = 2_000_000


@app.command("weblog")
def weblog_command(
    context: typer.Context,
    date: Annotated[str | None, typer.Option("--date", help="the day, as 2026-01-07")] = None,
    since: SinceOption = None,
    source: Annotated[
        list[str] | None, typer.Option("--source", help="log files, plain, gz or bz2; default: the landing zone")
    ] = None,
    log_format: Annotated[
        str | None,
        typer.Option(
            "--log-format",
            help="a name, nginx log_format, Apache LogFormat, W3C #Fields line or JSON mapping; else detected",
        ),
    ] = None,
    all_dates: Annotated[bool, typer.Option("--all-dates", help="every day found in the files of --source")] = False,
) -> dict[str, int]:
    """Web logs -> requests with their dimensions, visits, and the page views, visitors and funnels of days."""
    from etl.session import spark_session
    from etl.settings import SparkSettings
    from etl.sources.compressed import unpacked_bytes
    from etl.sources.lines import has_other_sources
    from etl.weblog import job as weblog
    from etl.weblog.formats.detection import detect_formats
    from etl.weblog.settings import WeblogSettings
    from etl.weblog.source import find_files

    if (date is None) != all_dates:
        raise UsageError("name one day (--date), or take --all-dates" if date is None else "--all-dates names no day")
    days, config = parse_days(date, since) if date else [], settings_of(context)
    if days and not source and has_other_sources(config.get(Paths), "weblog", days):
        return {"rows_in": 0}
    if log_format is not None:
        config = config.with_values({"weblog.log_format": log_format})
    # A missing file, or one that can't be read, fails here, before Spark starts.
    files = find_files(config, days, source or ())
    detect_formats(files, config.get(WeblogSettings).log_format)
    spark_settings = config.get(SparkSettings)
    if spark_settings.compile_little is None and unpacked_bytes(files) < SMALL_LOG_BYTES:
        # Most of its time is that of compilers and planners. Adaptive execution plans again after each shuffle.
        extra = {"spark.sql.adaptive.enabled": "false", **spark_settings.extra}
        small = {"spark.compile_little": True, "spark.shuffle_partitions": 1, "spark.extra": extra}
        config = config.with_values(small)
    with spark_session(config) as spark:
        return weblog.run(spark, config, days, source or ())
