"""`millrace etl weblog`: web logs into warehouse tables."""

from typing import Annotated

import typer

from conf import UsageError
from conf.console.cli import SinceOption, parse_days, settings_of

app = typer.Typer()


@app.command("weblog")
def weblog_command(
    context: typer.Context,
    date: Annotated[str | None, typer.Option("--date", help="the day, as 2026-01-07")] = None,
    since: SinceOption = None,
    source: Annotated[
        list[str] | None, typer.Option("--source", help="log files, plain or gz; default: the landing zone")
    ] = None,
    all_dates: Annotated[bool, typer.Option("--all-dates", help="every day found in the files of --source")] = False,
) -> dict[str, int]:
    """Web logs of nginx or Apache -> requests, dimensions, visits, and the page views, visitors and funnels of days."""
    from etl.session import spark_session
    from etl.weblog import job as weblog
    from etl.weblog.source import find_files

    if (date is None) != all_dates:
        raise UsageError("name one day (--date), or take --all-dates" if date is None else "--all-dates names no day")
    days, config = parse_days(date, since) if date else [], settings_of(context)
    find_files(config, days, source or ())  # a missing file fails here, before Spark starts
    with spark_session(config) as spark:
        return weblog.run(spark, config, days, source or ())
