"""`millrace ingest`: data of other systems, and of a declared site, into the warehouse."""

from pathlib import Path
from typing import Annotated

import typer

from conf.console.cli import parse_day, settings_of

ingest = typer.Typer(no_args_is_help=True, add_completion=False, help="Data of other systems into the warehouse.")

Names = Annotated[str | None, typer.Option(help="names of the columns in order, of files without a header: a,b,c")]


@ingest.command("interactions")
def interactions_command(
    context: typer.Context,
    ratings: Annotated[
        list[Path], typer.Option(help="file of ratings, clicks, plays or orders, or a folder of them; several")
    ],
    items: Annotated[list[Path] | None, typer.Option(help="file of items; several")] = None,
    users: Annotated[list[Path] | None, typer.Option(help="file of users; several")] = None,
    format: Annotated[
        str, typer.Option("--format", help="movielens, movielens-csv, recbole, events, or auto")
    ] = "auto",
    column: Annotated[list[str] | None, typer.Option(help="a column of the ratings: userId=user_id; several")] = None,
    item_column: Annotated[list[str] | None, typer.Option(help="a column of the items: name=title")] = None,
    user_column: Annotated[list[str] | None, typer.Option(help="a column of the users: sex=gender")] = None,
    header: Names = None,
    item_header: Names = None,
    user_header: Names = None,
    separator: Annotated[str | None, typer.Option(help="between cells, such as ; or tab; detected without it")] = None,
    quote: Annotated[str | None, typer.Option(help="around cells: a character, or none")] = None,
    escape: Annotated[
        str | None, typer.Option(help="character before a quote within a cell; else it is doubled")
    ] = None,
    encoding: Annotated[str | None, typer.Option(help="utf-8, latin-1, gb18030, big5 …")] = None,
    decimal: Annotated[str | None, typer.Option(help="decimal sign of numbers: . or ,")] = None,
    skip_lines: Annotated[int, typer.Option(min=0, help="lines before the header or the first row of the ratings")] = 0,
    time_format: Annotated[str | None, typer.Option(help="s, ms, us, ns, iso or a pattern: 'd.M.yyyy H:mm'")] = None,
    timezone: Annotated[str | None, typer.Option(help="of times that name none; site.timezone without it")] = None,
    day: Annotated[
        str | None, typer.Option(help="of ratings without times: a date, or `name` for the one in the file's name")
    ] = None,
    order_as_time: Annotated[bool, typer.Option("--order-as-time", help="with --day: later rows are later")] = False,
    action: Annotated[str | None, typer.Option(help="of ratings without a column of actions, such as purchase")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="the days of the ratings lose what they have")] = False,
) -> dict[str, object]:
    """Ratings, clicks, plays or orders of another system -> dwd_interaction, dim_user, dim_item.

    Layout and columns are detected and printed; each option overrides a part of that.
    """
    from etl.ingest import job
    from etl.ingest.requests import LayoutOptions, examine_all
    from etl.session import spark_session

    config = settings_of(context)
    layout = LayoutOptions(
        format=format,
        columns={"ratings": column or [], "items": item_column or [], "users": user_column or []},
        headers={"ratings": header, "items": item_header, "users": user_header},
        separator=separator,
        quote=quote,
        escape=escape,
        encoding=encoding,
        decimal=decimal,
        skip_lines=skip_lines,
        time_format=time_format,
        timezone=timezone,
        day=day,
        is_time_order=order_as_time,
    )
    groups = examine_all(config, {"ratings": ratings, "items": items or [], "users": users or []}, layout)
    with spark_session(config) as spark:
        return job.run(spark, config, groups, job.IngestOptions(action=action, replaces=replace))


@ingest.command("site")
def site_command(
    context: typer.Context,
    date: Annotated[
        str | None, typer.Option("--date", help="the day of patterns with {date}; every day without it")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="the days of the files lose what they have")] = False,
) -> dict[str, object]:
    """The files that the site declares -> dwd_interaction, dwd_impression, dim_user, dim_item.

    Without a site (--site FILE, MILLRACE_SITE) nothing is done. What is loaded already adds nothing.
    """
    from conf.site import Query, current_site
    from conf.site.checks import site_parts
    from conf.site.loading import site_folder
    from etl.ingest.sites import job as site_job
    from etl.session import spark_session

    site = current_site()
    if site is None:
        return {"rows_in": 0}
    config = settings_of(context)
    day = parse_day(date) if date else None
    if any(isinstance(part.source, Query) for part in site_parts(site)):
        with spark_session(config) as spark:
            return site_job.load_queried(spark, config, site, day, replaces=replace)
    # Before Spark starts: a file that is missing is told at once.
    groups = site_job.examine_site(config, site, site_folder(), day)
    with spark_session(config) as spark:
        return site_job.run(spark, config, site, groups, replaces=replace)
